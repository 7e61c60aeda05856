"""A race of candidates: all answer some questions, the better half of each recipe goes on to more.

Successive halving (Karnin, Koren & Somekh 2013; Jamieson & Talwalkar 2016) with a race per recipe,
because every recipe's best is reported. The heats end after a quarter, a half and all of the
questions, and none of the first two after fewer than ``FEWEST_QUESTIONS``. After a heat the better
half of a recipe goes on, by the score on all questions so far, but at least ``FEWEST_KEPT``;
of equals those proposed first. What is chosen has thus answered every question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FEWEST_QUESTIONS = 12
FEWEST_KEPT = 4


@dataclass(frozen=True)
class Race:
    """The recipe of every candidate, and the heats: first question and the one behind the last."""

    recipes: tuple[str, ...]
    heats: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, recipes: Sequence[str], questions: int) -> Race:
        """The heats of so many questions."""
        parts = (max(FEWEST_QUESTIONS, -(-questions // share)) for share in (4, 2))
        ends = [*sorted({end for end in parts if end < questions}), questions]
        return cls(tuple(recipes), tuple(zip([0, *ends], ends, strict=False)))

    def onward(self, asked: int, scores: Mapping[int, float]) -> list[int]:
        """Which of some candidates go on after so many questions, in the order proposed."""
        if asked == self.heats[-1][1]:
            return []
        kept: list[int] = []
        for recipe in dict.fromkeys(self.recipes):
            running = [i for i in scores if self.recipes[i] == recipe]
            ranked = sorted(running, key=lambda i: (-scores[i], i))
            kept += ranked[: halved(len(ranked))]
        return sorted(kept)

    def expected(self, costs: Sequence[float]) -> int:
        """What all heats cost together if those that go on cost what the others do.

        ``costs`` are those of one question, a candidate each.
        """
        sizes, total = Counter(self.recipes), 0.0
        left = dict(sizes)
        for first, last in self.heats:
            for recipe, cost in zip(self.recipes, costs, strict=True):
                total += (last - first) * cost * left[recipe] / sizes[recipe]
            left = {recipe: halved(count) for recipe, count in left.items()}
        return round(total)


def halved(count: int) -> int:
    """How many candidates of a recipe go on, of this many."""
    return max(min(count, FEWEST_KEPT), -(-count // 2))
