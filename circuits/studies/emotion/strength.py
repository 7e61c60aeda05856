"""How strongly to drive towards each label: one rule for every way, on discovery prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from circuits.studies.emotion.prompts import EmotionPrompt
from circuits.studies.emotion.trial import Harness, Make

FIRST = {"circuit": 1 / 32, "steering": 1 / 128}
"""The weakest strength tried: of the measured difference, and of the stream's norm."""
DOUBLINGS, PARTS = 8, 4


@dataclass(frozen=True, slots=True)
class StrengthTrial:
    """What one strength gave for one label: shares of the replies."""

    strength: float
    accuracy: float
    degenerate: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """For every label all strengths tried, in order; ``replies`` is how many there were at each."""

    labels: tuple[str, ...]
    tried: tuple[tuple[StrengthTrial, ...], ...]
    replies: int

    @property
    def best(self) -> tuple[StrengthTrial, ...]:
        """For every label the strength chosen; see :func:`tune`."""
        return tuple(map(_best, self.tried))

    @property
    def strengths(self) -> tuple[float, ...]:
        """The same as numbers."""
        return tuple(one.strength for one in self.best)

    @property
    def at_edge(self) -> tuple[str, ...]:
        """Labels for which the strongest tried is the best, so that a better one may lie beyond."""
        rows = zip(self.labels, self.tried, self.best, strict=True)
        return tuple(label for label, tried, best in rows if best == tried[-1])

    def to_json(self) -> dict[str, Any]:
        """Plain values for the report."""
        rows = zip(self.labels, self.tried, strict=True)
        return {
            "chosen": dict(zip(self.labels, self.strengths, strict=True)),
            "at_edge": list(self.at_edge),
            "replies": self.replies,
            "tried": {label: [asdict(one) for one in tried] for label, tried in rows},
        }


def tune(
    harness: Harness,
    prompts: Sequence[EmotionPrompt],
    make: Callable[[float], Sequence[Make]],
    first: float,
) -> Tuning:
    """For every label the strength with the most hits.

    Eight strengths are tried, each twice the one before, then three between the best of them and
    either neighbour. Of equally accurate strengths the one with the fewest degenerate replies is
    chosen, then the weakest. Several draws of components share the prompts among them, so that
    every strength is judged on as many replies.
    """
    whole = [first * 2**step for step in range(DOUBLINGS)]
    steps = [step / PARTS for step in range(1 - PARTS, PARTS) if step]
    tried_by_label = []
    for number in range(len(harness.concept.labels)):
        tried = [_try(harness, number, prompts, make(strength), strength) for strength in whole]
        near = [_best(tried).strength * 2**step for step in steps]
        tried += [_try(harness, number, prompts, make(strength), strength) for strength in near]
        tried_by_label.append(tuple(sorted(tried, key=lambda one: one.strength)))
    return Tuning(harness.concept.labels, tuple(tried_by_label), len(prompts))


def _try(
    harness: Harness,
    number: int,
    prompts: Sequence[EmotionPrompt],
    makes: Sequence[Make],
    strength: float,
) -> StrengthTrial:
    makes = makes[: len(prompts)]
    rows = [
        row
        for place, make in enumerate(makes)
        for row in harness.judged(number, prompts[place :: len(makes)], make)
    ]
    hits = sum(row.hit for row in rows) / len(rows)
    return StrengthTrial(strength, hits, sum(row.reply.degenerate for row in rows) / len(rows))


def _best(tried: Sequence[StrengthTrial]) -> StrengthTrial:
    return max(tried, key=lambda one: (one.accuracy, -one.degenerate, -one.strength))
