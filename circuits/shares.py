"""A share of hits with the interval within which the true share lies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Share:
    """`right` of `n`, as a share with its 95 % Wilson interval."""

    right: int
    n: int

    @classmethod
    def of(cls, hits: Iterable[bool]) -> Share:
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
