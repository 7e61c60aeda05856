"""From which layer the label that is asked for can be read, in what conditions, at which token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from circuits.probes import Probes, probe
from circuits.studies.emotion.prompts import Concept, EmotionPrompt
from patching.capture import Prompts
from tasks.tokenize import pad_id

if TYPE_CHECKING:
    from patching.model import Model

NOISE = 8
POSITIONS = (-1, -2, -4, -8, -16)
PLAIN = "as they are"
CONDITIONS: Mapping[str, Mapping[str, Any]] = {
    f"{NOISE} random tokens before": {"noise": NOISE},
    "weights of 8 bits": {"bits": 8},
    "weights of 4 bits": {"bits": 4},
    "labels shuffled": {"shuffled": True},
}


@dataclass(frozen=True)
class Readings:
    """Probes at the last token by condition, and at some tokens before it.

    conditions   the plain prompts first; those that do not fit the model are left out
    positions    of the plain prompts, one probe for each point and position
    """

    conditions: Mapping[str, Probes]
    positions: Probes

    def vectors(self, labels: tuple[str, ...]) -> Float[np.ndarray, "labels layers d"]:
        """Unit weights of the plain probes after the MLP of every layer."""
        plain = self.positions
        points = [point for point in plain.points if point.startswith("resid_post")]
        return np.array([[plain.vector(label, point, -1) for point in points] for label in labels])

    def tensors(self, labels: tuple[str, ...]) -> dict[str, Float[np.ndarray, "..."]]:
        """The plain probes of the last token, in float32: weights and biases for the stream."""
        plain = self.positions
        order, last = [plain.labels.index(label) for label in labels], plain.positions.index("-1")
        parts = {"probe_weights": plain.weights, "probe_biases": plain.biases}
        return {
            name: np.ascontiguousarray(values[order][:, :, last], np.float32)
            for name, values in parts.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values for the report: accuracies by point, with intervals."""
        plain = self.positions
        return {
            "fitted": plain.fitted,
            "tested": plain.tested,
            "chance": plain.chance,
            "points": list(plain.points),
            "conditions": {
                name: _accuracies(probes, -1) for name, probes in self.conditions.items()
            },
            "positions": {name: _accuracies(plain, name) for name in plain.positions},
        }


def _accuracies(probes: Probes, position: str | int) -> dict[str, Any]:
    shares = [probes.share(point, position) for point in probes.points]
    return {
        "accuracy": [share.value for share in shares],
        "interval": [list(share.interval) for share in shares],
    }


def read_labels(
    model: Model, concept: Concept, groups: int, tests: int, seed: int, batch_size: int
) -> Readings:
    """Probes fitted on discovery prompts and tested on test prompts, which share no scenario."""
    sides = [_asked(concept, "discovery", groups), _asked(concept, "test", tests)]
    prompts = [prompt for side in sides for prompt in side]
    rows = [prompt.ids(model.tokenizer) for prompt in prompts]
    lengths = [len(row) for row in rows]
    settings: dict[str, Any] = {
        "groups": [prompt.group for prompt in prompts],
        "held_out": [number == 1 for number, side in enumerate(sides) for _ in side],
        "seed": seed,
        "batch_size": batch_size,
    }
    texts, labels = Prompts.of(rows, pad_id(model.tokenizer)), [str(p.label) for p in prompts]
    near = [position for position in POSITIONS if -position <= min(lengths)]
    plain = probe(model, texts, labels, positions=near, **settings)
    conditions = {PLAIN: plain}
    longest = model.longest
    for name, condition in CONDITIONS.items():
        if longest is None or max(lengths) + condition.get("noise", 0) <= longest:
            conditions[name] = probe(model, texts, labels, **settings, **condition)
    return Readings(conditions, plain)


def _asked(concept: Concept, split: str, groups: int) -> list[EmotionPrompt]:
    return [prompt for prompt in concept.take(split, groups) if prompt.label is not None]
