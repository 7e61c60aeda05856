"""How well one set of numbers stands for another: correlations, signs, the strongest few."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from circuits.results.intervals import Estimate, draw, percentiles, weights

Effects = Float[np.ndarray, "*draws s"]
Values = Float[np.ndarray, "*draws"]
Measure = Callable[[Effects, Effects], Values]


def pearson(exact: Effects, estimate: Effects) -> Values:
    """Linear correlation, -1 to 1; nan where either does not vary."""
    a, b = (values - values.mean(axis=-1, keepdims=True) for values in (exact, estimate))
    scale = np.sqrt(_dot(a, a) * _dot(b, b))
    return np.divide(_dot(a, b), scale, out=np.full(scale.shape, np.nan), where=scale > 0)


def _dot(a: Effects, b: Effects) -> Values:
    return (a[..., None, :] @ b[..., :, None])[..., 0, 0]


def spearman(exact: Effects, estimate: Effects) -> Values:
    """Correlation of ranks, ties sharing their mean rank."""
    from scipy.stats import rankdata

    return pearson(rankdata(exact, axis=-1), rankdata(estimate, axis=-1))


def sign_agreement(exact: Effects, estimate: Effects) -> Values:
    """Share of equal signs among the quarter of sites whose exact effect is largest."""
    largest = _largest(exact, max(1, exact.shape[-1] // 4))
    same = np.sign(exact) == np.sign(estimate)
    return np.take_along_axis(same, largest, axis=-1).mean(axis=-1)


def recall(exact: Effects, estimate: Effects) -> Values:
    """Share of the strongest tenth (at least three) by exact effect that the estimate finds."""
    sites = exact.shape[-1]
    count = min(sites, max(3, sites // 10))
    mine, theirs = (_largest(values, count) for values in (exact, estimate))
    return (mine[..., :, None] == theirs[..., None, :]).sum(axis=(-2, -1)) / count


def _largest(effects: Effects, count: int) -> Int[np.ndarray, "*draws count"]:
    return np.argsort(-np.abs(effects), axis=-1, kind="stable")[..., :count]


MEASURES: dict[str, Measure] = {
    "pearson": pearson,
    "spearman": spearman,
    "signs": sign_agreement,
    "recall": recall,
}


def agreement(
    exact: Float[np.ndarray, "n s"],
    estimate: Float[np.ndarray, "n s"],
    seed: int = 0,
) -> dict[str, Estimate]:
    """Every measure between the mean effects, with intervals from resampled prompts.

    The same prompts are drawn for both, so that the interval is of the agreement and not of the
    effects themselves.
    """
    n = len(exact)
    prompts = weights(draw(n, seed))
    drawn = prompts @ exact, prompts @ estimate
    means = exact.mean(0), estimate.mean(0)
    return {
        name: Estimate(float(measure(*means)), percentiles(measure(*drawn)), n)
        for name, measure in MEASURES.items()
    }
