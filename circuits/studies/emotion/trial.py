"""Ways of driving the model, all on the same prompts, and what the judge says of the replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from circuits.directions import Directions
from circuits.results.intervals import MeanProportion, Proportion
from circuits.studies.emotion.circuit import Components
from circuits.studies.emotion.control import Reply, enhance, replies, silence, steer
from circuits.studies.emotion.prompts import Concept, EmotionPrompt
from patching.forward import Tap, no_tap
from patching.model import Model

SHOWN = 2

Make = Callable[[int], Tap]
"""The tap that drives the model towards a label, given by number."""


@dataclass(frozen=True, slots=True)
class JudgedReply:
    """A reply that should show `label`, to a prompt of some kind; `hit` says that it does."""

    label: str
    kind: str
    hit: bool
    reply: Reply


@dataclass(frozen=True)
class Trial:
    """A condition of control on all prompts; several draws where its components are random."""

    name: str
    draws: tuple[tuple[JudgedReply, ...], ...]

    @property
    def share(self) -> MeanProportion:
        """Replies that show the label they should."""
        return self._share(_hit)

    @property
    def degenerate(self) -> MeanProportion:
        """Replies that repeat themselves or hold fewer than two tokens."""
        return self._share(_degenerate)

    @property
    def hits(self) -> Float[np.ndarray, "draws labels groups"]:
        """1 where a reply shows its label, else 0; every label has a prompt of every group."""
        labels = dict.fromkeys(row.label for row in self.draws[0])
        return np.array(
            [
                [[float(row.hit) for row in draw if row.label == label] for label in labels]
                for draw in self.draws
            ]
        )

    @property
    def examples(self) -> tuple[tuple[str, str], ...]:
        """The first replies to each label."""
        shown: dict[str, list[str]] = {}
        for row in self.draws[0]:
            shown.setdefault(row.label, []).append(row.reply.text)
        return tuple((label, text) for label, texts in shown.items() for text in texts[:SHOWN])

    def by(self, what: str) -> dict[str, MeanProportion]:
        """Hits by `label` or by `kind` of prompt."""
        names = dict.fromkeys(getattr(row, what) for row in self.draws[0])
        return {name: self._share(_hit, what, name) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Plain values for the report; counts are over all draws."""
        every = [row.reply for draw in self.draws for row in draw]
        return {
            "name": self.name,
            "all": self.share.to_json(),
            "degenerate": self.degenerate.to_json(),
            "by_label": {name: share.to_json() for name, share in self.by("label").items()},
            "by_kind": {name: share.to_json() for name, share in self.by("kind").items()},
            "replies": len(every),
            "replies_cut_off_at_the_limit": sum(not reply.ended for reply in every),
            "replies_of_fewer_than_two_tokens": sum(reply.short for reply in every),
            "replies_that_repeat": sum(reply.repeats for reply in every),
            "examples": [list(pair) for pair in self.examples],
        }

    def _share(
        self, counts: Callable[[JudgedReply], bool], what: str = "", name: str = ""
    ) -> MeanProportion:
        return MeanProportion(
            tuple(
                Proportion.of(counts(row) for row in draw if not what or getattr(row, what) == name)
                for draw in self.draws
            )
        )


def _hit(row: JudgedReply) -> bool:
    return row.hit


def _degenerate(row: JudgedReply) -> bool:
    return row.reply.degenerate


@dataclass(frozen=True)
class Harness:
    """The model, the prompts' judge and the decoding that all methods share."""

    model: Model
    concept: Concept
    directions: Directions
    chosen: tuple[Components, ...]
    layers: tuple[int, ...]
    positions: str
    new_tokens: int
    batch_size: int
    bos: bool | None = None

    def enhanced(
        self, strength: float | Sequence[float], chosen: Sequence[Components] | None = None
    ) -> Make:
        """The circuit's differences added, on its own components or on others.

        A strength may be given for every label, here and in steering.
        """
        parts, d, s = chosen or self.chosen, self.directions, self._each(strength)
        return lambda e: enhance(parts[e], d.neurons[e], d.heads[e], s[e], self.positions)

    def silenced(self, chosen: Sequence[Components] | None = None) -> Make:
        """The circuit's components set to zero, or others."""
        parts = chosen or self.chosen
        return lambda e: silence(parts[e], self.positions)

    def steered(
        self,
        strength: float | Sequence[float],
        vectors: Float[np.ndarray, "labels layers d"] | None = None,
    ) -> Make:
        """The residual stream pushed along the label's directions, or along other unit vectors."""
        along = self.directions.at("resid_post") if vectors is None else vectors
        s = self._each(strength)
        return lambda e: steer(along[e], self.layers, s[e], self.positions)

    def try_out(
        self,
        name: str,
        prompts: Sequence[EmotionPrompt],
        makes: Sequence[Make],
        asked: bool = False,
    ) -> Trial:
        """Replies for every label: to the prompts that ask for it, or for nothing.

        Each of `makes` is a draw.
        """
        draws = []
        for make in makes:
            replies: list[JudgedReply] = []
            for number, label in enumerate(self.concept.labels):
                part = [p for p in prompts if p.label == (label if asked else None)]
                replies += self.judged(number, part, make)
            draws.append(tuple(replies))
        return Trial(name, tuple(draws))

    def judged(
        self, number: int, prompts: Sequence[EmotionPrompt], make: Make
    ) -> list[JudgedReply]:
        """Replies that should show one label."""
        label = self.concept.labels[number]
        made = replies(self.model, prompts, self.new_tokens, make(number), self.batch_size)
        return [
            JudgedReply(label, prompt.kind, self.concept.judged(reply.text) == label, reply)
            for prompt, reply in zip(prompts, made, strict=True)
        ]

    def _each(self, strength: float | Sequence[float]) -> Sequence[float]:
        if isinstance(strength, Sequence):
            return strength
        return [strength] * len(self.concept.labels)


def untouched(number: int) -> Tap:
    """No change, whatever the label."""
    del number
    return no_tap
