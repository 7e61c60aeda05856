"""Shares of hits with the interval within which the true share lies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from statistics import stdev
from typing import Any

Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Proportion:
    """`right` of `n`, as a share with its 95 % Wilson interval."""

    right: int
    n: int

    @classmethod
    def of(cls, hits: Iterable[bool]) -> Proportion:
        """The share of true entries."""
        hits = list(hits)
        return cls(sum(hits), len(hits))

    @property
    def value(self) -> float:
        """right / n."""
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval (1927), which stays inside 0 and 1 when all or none are right."""
        z2 = Z95**2
        middle = (self.right + z2 / 2) / (self.n + z2)
        spread = sqrt(self.right * (self.n - self.right) / self.n + z2 / 4) * Z95 / (self.n + z2)
        return max(0.0, middle - spread), min(1.0, middle + spread)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.2%} [{low:.2%}, {high:.2%}], n={self.n}"


@dataclass(frozen=True, slots=True)
class MeanProportion:
    """The mean of shares over random draws, each of them counted on the same `n` cases."""

    draws: tuple[Proportion, ...]

    @property
    def n(self) -> int:
        """Cases of one draw."""
        return self.draws[0].n

    @property
    def value(self) -> float:
        """The mean over draws."""
        return sum(share.value for share in self.draws) / len(self.draws)

    @property
    def interval(self) -> tuple[float, float]:
        """From the lower to the higher end of two intervals of 95 %.

        Student's over draws says how much the draw matters; Wilson's for one draw says how much
        the cases do, which all draws share, so that more draws tell no more about them.
        """
        low, high = Proportion(round(self.value * self.n), self.n).interval
        if len(self.draws) < 2:
            return low, high
        from scipy.stats import t

        values = [share.value for share in self.draws]
        spread = stdev(values) / sqrt(len(values)) * float(t.ppf(0.975, len(values) - 1))
        return max(0.0, min(low, self.value - spread)), min(1.0, max(high, self.value + spread))

    def to_json(self) -> dict[str, Any]:
        """Plain values for a report; of several draws each one's share as well."""
        told = {"value": self.value, "interval": list(self.interval), "n": self.n}
        several = len(self.draws) > 1
        return told | ({"draws": [share.value for share in self.draws]} if several else {})
