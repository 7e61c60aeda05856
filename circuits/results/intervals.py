"""How sure a number is: its interval at 95 %, by the bootstrap or, of a share, by Wilson's formula.

An interval is its two ends; in a file it is ``[low, high]`` beside its ``value``. The bootstrap:

1. draw ``n`` of the ``n`` prompts with replacement, 2,000 times, all from one seed
2. compute the statistic of every draw
3. take the 2.5th and the 97.5th percentile of the values that are defined
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from statistics import stdev
from typing import Any

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 2000
COVERAGE = 0.95
TAILS = ((1 - COVERAGE) / 2, 1 - (1 - COVERAGE) / 2)
Z95 = 1.959964
NO_INTERVAL = "no interval: more than one prompt pair is needed for one"

Ends = tuple[float, float]
Draws = Int[np.ndarray, "times n"]


def draw(n: int, seed: int | np.random.Generator = 0, times: int = RESAMPLES) -> Draws:
    """Row numbers of ``n`` prompts, drawn with replacement; one draw per row."""
    return np.random.default_rng(seed).integers(n, size=(times, n))


def weights(draws: Draws) -> Float[np.ndarray, "times n"]:
    """What share of a draw each prompt is; every row sums to 1.

    ``weights(draws) @ values`` are the means of all draws, of many ``values`` at once.
    """
    cells = draws + len(draws.T) * np.arange(len(draws))[:, None]
    counts = np.bincount(cells.ravel(), minlength=draws.size)
    return counts.reshape(draws.shape) / len(draws.T)


def percentiles(values: Float[np.ndarray, "*any"]) -> Ends | None:
    """The ends between which 95 % of the values lie that are defined; None where none is."""
    defined = values[~np.isnan(values)]
    if not defined.size:
        return None
    # Between a finite and an infinite value there is nothing to interpolate.
    method: Any = "linear" if np.isfinite(defined).all() else "nearest"
    low, high = np.quantile(defined, TAILS, method=method)
    return float(low), float(high)


def bootstrap(
    statistic: Callable[[Draws], Sequence[float] | np.ndarray],
    n: int,
    seed: int | np.random.Generator = 0,
    times: int = RESAMPLES,
) -> Ends | None:
    """The percentile interval of a statistic over ``n`` prompts; see the top of this module.

    ``statistic`` gives one number for every row of the draws. None where it is never defined, and
    of a single prompt, which has no spread.
    """
    if n < 2:
        return None
    with np.errstate(all="ignore"):
        values = np.asarray(statistic(draw(n, seed, times)), dtype=float)
    return percentiles(values)


def spelled(value: float, ends: Ends | None, form: str = ".3f", unit: str = "") -> str:
    """A number with its interval: ``0.310 [0.250, 0.375]``."""
    between = "" if ends is None else f" [{ends[0]:{form}}, {ends[1]:{form}}]"
    return f"{value:{form}}{unit}{between}"


def percent(value: float, ends: Ends | None, unit: str = "") -> str:
    """A share with its interval, in percent: ``31.0 [25.0, 37.5]``."""
    return spelled(100 * value, ends and (100 * ends[0], 100 * ends[1]), ".1f", unit)


def verdict(faithfulness: float | None, interval: Ends | None) -> str:
    """A faithfulness in words."""
    if faithfulness is None:
        return "undefined: the model does not distinguish the two runs, so nothing can be recovered"
    if interval is None:
        return f"{faithfulness:.1%} ({NO_INTERVAL})"
    return f"{faithfulness:.1%} (95 % interval {interval[0]:.1%} to {interval[1]:.1%})"


def plain(number: float) -> float | str | None:
    """The number as JSON knows it: null for what is not defined, "Infinity" for infinite."""
    if np.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return None if np.isnan(number) else number


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number measured on ``n`` cases, with its interval."""

    value: float
    interval: Ends | None
    n: int

    @classmethod
    def of(cls, measure: Callable[[Int[np.ndarray, " n"]], float], n: int) -> Estimate:
        """A measure of row numbers ``0..n-1``, with its bootstrap interval."""
        ends = bootstrap(lambda draws: [measure(rows) for rows in draws], n)
        return cls(float(measure(np.arange(n))), ends, n)

    @classmethod
    def mean(cls, values: np.ndarray) -> Estimate:
        """The mean of some values, such as the share of hits."""
        ends = bootstrap(lambda draws: values[draws].mean(axis=1), len(values))
        return cls(float(values.mean()), ends, len(values))

    @property
    def low(self) -> float:
        """The lower end; nan without an interval."""
        return self.interval[0] if self.interval else nan

    @property
    def high(self) -> float:
        """The upper end; nan without an interval."""
        return self.interval[1] if self.interval else nan

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        ends = self.interval and [*map(plain, self.interval)]
        return {"value": plain(self.value), "interval": ends, "n": self.n}

    def __str__(self) -> str:
        return spelled(self.value, self.interval)


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
    def interval(self) -> Ends:
        """Wilson's score interval (1927), which stays inside 0 and 1 when all or none are right."""
        z2 = Z95**2
        middle = (self.right + z2 / 2) / (self.n + z2)
        spread = sqrt(self.right * (self.n - self.right) / self.n + z2 / 4) * Z95 / (self.n + z2)
        return max(0.0, middle - spread), min(1.0, middle + spread)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        ends = list(self.interval)
        return {"value": self.value, "interval": ends, "n": self.n, "right": self.right}

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
    def interval(self) -> Ends:
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
        """Plain values for a file; of several draws each one's share as well."""
        several = {"draws": [share.value for share in self.draws]} if len(self.draws) > 1 else {}
        return {"value": self.value, "interval": list(self.interval), "n": self.n, **several}
