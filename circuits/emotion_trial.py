"""Every way of driving the model on the same prompts: what the judge says, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from circuits.directions import Directions
from circuits.emotion_circuit import Components
from circuits.emotion_control import Reply, enhance, perplexity, replies, silence, steer
from circuits.emotion_prompts import Asking, Concept
from circuits.shares import Share
from patching.forward import Tap, no_tap
from patching.model import Model
from tasks.errors import TaskError

CIRCUIT_STRENGTHS = (0.5, 1.0, 1.5, 2.0, 3.0)
STEERING_STRENGTHS = (0.05, 0.1, 0.2, 0.4, 0.8)
OTHERS = ("ioi", "mental_math", "mcq_bias")
SHOWN = 2

Make = Callable[[int], Tap]


@dataclass(frozen=True)
class Trial:
    """One method on all test prompts: judged replies by label and by kind of prompt."""

    name: str
    hits: tuple[tuple[str, str, bool], ...]
    examples: tuple[tuple[str, str], ...]
    cut_off: int
    short: int
    repeating: int

    @property
    def share(self) -> Share:
        """Replies that show the label asked for."""
        return Share.of(hit for _, _, hit in self.hits)

    def by(self, place: int) -> dict[str, Share]:
        """The same by label (0) or by kind of prompt (1)."""
        found: dict[str, list[bool]] = {}
        for row in self.hits:
            found.setdefault(str(row[place]), []).append(row[2])
        return {name: Share.of(hits) for name, hits in found.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain values for the report."""
        return {
            "name": self.name,
            "all": told(self.share),
            "by_label": {name: told(share) for name, share in self.by(0).items()},
            "by_kind": {name: told(share) for name, share in self.by(1).items()},
            "replies_cut_off_at_the_limit": self.cut_off,
            "replies_of_fewer_than_two_tokens": self.short,
            "replies_that_repeat": self.repeating,
            "examples": [list(pair) for pair in self.examples],
        }


def told(share: Share) -> dict[str, Any]:
    """A share with its 95 % Wilson interval."""
    return {"value": share.value, "interval": list(share.interval), "n": share.n}


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

    def enhanced(self, strength: float, chosen: Sequence[Components] | None = None) -> Make:
        """The circuit's differences added, on its own components or on others."""
        parts, d = chosen or self.chosen, self.directions
        return lambda e: enhance(parts[e], d.neurons[e], d.heads[e], strength, self.positions)

    def silenced(self, chosen: Sequence[Components] | None = None) -> Make:
        """The circuit's components set to zero, or others."""
        parts = chosen or self.chosen
        return lambda e: silence(parts[e], self.positions)

    def steered(self, strength: float, positions: str | None = None) -> Make:
        """The residual stream pushed along the label's directions."""
        vectors = self.directions.at("resid_post")
        return lambda e: steer(vectors[e], self.layers, strength, positions or self.positions)

    def try_out(self, name: str, prompts: Sequence[Asking], make: Make, asked: bool) -> Trial:
        """Replies for every label: to the prompts that ask for it, or for nothing."""
        hits, examples, found = [], [], []
        for number, label in enumerate(self.concept.labels):
            part = [p for p in prompts if p.label == (label if asked else None)]
            texts = [p.text for p in part]
            made = replies(self.model, texts, self.new_tokens, make(number), self.batch_size)
            found += made
            examples += [(label, reply.text) for reply in made[:SHOWN]]
            hits += [
                (label, prompt.kind, self.concept.judged(reply.text) == label)
                for prompt, reply in zip(part, made, strict=True)
            ]
        return Trial(name, tuple(hits), tuple(examples), *_irregular(found))

    def best_strength(
        self, prompts: Sequence[Asking], make: Callable[[float], Make], grid: Sequence[float]
    ) -> float:
        """The strength judged best on discovery prompts; the smallest of equals."""
        tried = [self.try_out("", prompts, make(s), asked=False).share.value for s in grid]
        return grid[tried.index(max(tried))]

    def perplexities(self, texts: Sequence[str], makes: Mapping[str, Make]) -> dict[str, float]:
        """Perplexity of plain text, mean over labels; taps are to be for all positions."""
        found = {}
        for name, make in makes.items():
            taps = [make(number) for number in range(len(self.concept.labels))]
            values = [perplexity(self.model, texts, tap, self.batch_size) for tap in taps]
            found[name] = sum(values) / len(values)
        return found

    def other_tasks(self, makes: Mapping[str, Make], n: int, seed: int) -> dict[str, Any]:
        """Share of pairs whose clean answer beats the other, mean over labels, by task."""
        import tasks
        from patching.runs import batches

        found: dict[str, Any] = {}
        for task in OTHERS:
            try:
                pairs = tasks.get(task).pairs(self.model.tokenizer, n=n, seed=seed)
                parts = list(batches(self.model, pairs, self.batch_size))
            except TaskError:
                continue
            found[task] = {}
            for name, make in makes.items():
                right = [
                    bool(hit)
                    for number in range(len(self.concept.labels))
                    for part in parts
                    for hit in _right(self.model, part, make(number))
                ]
                found[task][name] = told(Share.of(right))
        return found


def untouched(number: int) -> Tap:
    """No change, whatever the label."""
    del number
    return no_tap


def _right(model: Model, batch: Any, tap: Tap) -> list[bool]:
    import torch

    from patching.metrics import check_metric

    with torch.no_grad():
        logits = model.run(batch.clean, batch.mask, tap)
        values = check_metric("logit_diff")(logits, batch.pairs)
    return (values > 0).tolist()


def _irregular(found: Sequence[Reply]) -> tuple[int, int, int]:
    return (
        sum(not reply.ended for reply in found),
        sum(reply.ended and reply.tokens < 2 for reply in found),
        sum(reply.repeats for reply in found),
    )
