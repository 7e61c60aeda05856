"""How well one set of numbers stands for another: correlations, signs, the strongest few."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Measure = Callable[[np.ndarray, np.ndarray], float]


def pearson(exact: Float[np.ndarray, " s"], estimate: Float[np.ndarray, " s"]) -> float:
    """Linear correlation, -1 to 1; nan where either does not vary."""
    a, b = exact - exact.mean(), estimate - estimate.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else float("nan")


def spearman(exact: Float[np.ndarray, " s"], estimate: Float[np.ndarray, " s"]) -> float:
    """Correlation of ranks, ties sharing their mean rank."""
    return pearson(_ranks(exact), _ranks(estimate))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[inverse]


def sign_agreement(exact: Float[np.ndarray, " s"], estimate: Float[np.ndarray, " s"]) -> float:
    """Share of equal signs among the quarter of sites whose exact effect is largest."""
    strongest = np.argsort(-np.abs(exact), kind="stable")[: max(1, len(exact) // 4)]
    return float((np.sign(exact[strongest]) == np.sign(estimate[strongest])).mean())


def recall(exact: Float[np.ndarray, " s"], estimate: Float[np.ndarray, " s"]) -> float:
    """Share of the strongest tenth (at least three) by exact effect that the estimate finds."""
    count = min(len(exact), max(3, len(exact) // 10))
    wanted = np.argsort(-np.abs(exact), kind="stable")[:count]
    found = np.argsort(-np.abs(estimate), kind="stable")[:count]
    return len(np.intersect1d(wanted, found)) / count


MEASURES: dict[str, Measure] = {
    "pearson": pearson,
    "spearman": spearman,
    "signs": sign_agreement,
    "recall": recall,
}


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and its percentile bootstrap interval over prompts."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def agreement(
    exact: Float[np.ndarray, "n s"],
    estimate: Float[np.ndarray, "n s"],
    *,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Every measure between the mean effects, with intervals from resampled prompts.

    The same prompts are drawn for both, so that the interval is of the agreement and not of the
    effects themselves.
    """
    generator = np.random.default_rng(seed)
    count = len(exact)
    weights = generator.multinomial(count, np.full(count, 1 / count), size=resamples) / count
    drawn = list(zip(weights @ exact, weights @ estimate, strict=True))
    tails = [50 * (1 - level), 50 * (1 + level)]
    found = {}
    for name, measure in MEASURES.items():
        value = measure(exact.mean(0), estimate.mean(0))
        low, high = np.nanpercentile([measure(a, b) for a, b in drawn] or [value], tails)
        found[name] = Interval(value, float(low), float(high))
    return found
