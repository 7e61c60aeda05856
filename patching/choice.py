"""What the method ``auto`` chose for some sites, what that cost, and how it was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from tasks.errors import FormatError, counted

ESTIMATE = "ig:on=activations+steps=2+qk_fix=true"
"""The estimate that agreed best with the exact effects of single sites (docs/explanation)."""

CHECKED = 16
"""How many of the estimated sites are also done exactly: half of them the strongest."""

RIGHT, RIGHT_SIGNS = 0.95, 0.97
"""Pearson correlation, and share of right signs among the strongest, below which it is said that
the estimate misses."""


@dataclass(frozen=True)
class Check:
    """Some estimated sites beside their exact effects.

    sites      how many: the strongest by the estimate, and as many others, drawn
    pearson    correlation of the estimate with the exact effect over them; None where undefined
    signs      share of equal signs among the strongest
    worst      the largest difference, in units of the metric
    largest    the largest exact effect
    """

    sites: int
    pearson: float | None
    signs: float
    worst: float
    largest: float

    @classmethod
    def of(
        cls,
        exact: Float[np.ndarray, " s"],
        estimate: Float[np.ndarray, " s"],
        strongest: int,
    ) -> Self:
        """Exact effects and estimates of the same sites, the ``strongest`` first."""
        varied = len(exact) > 1 and exact.std() > 0 and estimate.std() > 0
        same = np.sign(exact[:strongest]) == np.sign(estimate[:strongest])
        return cls(
            sites=len(exact),
            pearson=float(np.corrcoef(exact, estimate)[0, 1]) if varied else None,
            signs=float(same.mean()),
            worst=float(np.abs(exact - estimate).max()),
            largest=float(np.abs(exact).max()),
        )

    @property
    def right(self) -> bool:
        """Whether the estimate agrees with what was done exactly."""
        return (self.pearson is None or self.pearson >= RIGHT) and self.signs >= RIGHT_SIGNS

    def __str__(self) -> str:
        pearson = "undefined" if self.pearson is None else f"{self.pearson:.3f}"
        agreement = (
            f"{counted(self.sites, 'estimated site')} were also done exactly: Pearson {pearson}, "
            f"{self.signs:.0%} of the signs of the strongest right, largest difference "
            f"{self.worst:.3g} beside a largest effect of {self.largest:.3g}"
        )
        return (
            agreement
            if self.right
            else f"{agreement}. The estimate misses here: use activation (exact)"
        )


@dataclass(frozen=True)
class Chosen:
    """Which kinds of points were done exactly, and which were estimated.

    Costs are in block passes per prompt (:mod:`patching.costs`): of what was done with its check,
    and of doing every site exactly.
    """

    exact: tuple[str, ...]
    estimated: tuple[str, ...]
    cost: float
    cost_exact: float
    check: Check | None = None

    def __str__(self) -> str:
        ways = [f"{', '.join(self.exact)} exactly"] if self.exact else []
        if self.estimated:
            ways.append(f"{', '.join(self.estimated)} by {ESTIMATE}")
        line = f"{' and '.join(ways)}, {self.cost:,.0f} block passes per prompt"
        if self.estimated:
            line += f" (all exactly: {self.cost_exact:,.0f})"
        return line if self.check is None else f"{line}; {self.check}"

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` wrote.

        Raises:
            FormatError: it is something else.
        """
        try:
            return cls(
                exact=tuple(map(str, content["exact"])),
                estimated=tuple(map(str, content["estimated"])),
                cost=float(content["cost"]),
                cost_exact=float(content["cost_exact"]),
                check=Check(**content["check"]) if content["check"] else None,
            )
        except (KeyError, TypeError, ValueError) as fault:
            raise FormatError(f"what auto chose is told in another form ({fault})") from None
