"""Areas under a faithfulness curve, and faithfulness itself.

With sizes ``k`` as shares of all edges and ``f(k)`` the faithfulness of the circuit of that size:

    CPR = integral of f dk          CMD = integral of |1 - f| dk

by trapezoids between the measured sizes, on the linear axis, from the smallest size to the largest
(MIB, arXiv 2504.13151: so f = 1 everywhere gives CPR .999). Half of the weight lies between 50 and
100 % of the edges, so ``log_cpr`` and ``log_cmd`` take the same means over log k: each decade of
sizes counts the same, and f = 1 everywhere gives 1 and 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

KINDS = ("cpr", "cmd", "log_cpr", "log_cmd")
NOISE = 1.96
"""Standard errors within which a mean is noise."""


def area(sizes: Sequence[float], f: Float[np.ndarray, "*b k"], kind: str) -> np.ndarray:
    """CPR, CMD or one of their means over log size, of one or many curves."""
    k, values = np.asarray(sizes, dtype=float), np.asarray(f, dtype=float)
    heights = np.abs(1 - values) if kind.endswith("cmd") else values
    if not kind.startswith("log"):
        return np.trapezoid(heights, k, axis=-1)
    return np.trapezoid(heights, np.log(k), axis=-1) / np.log(k[-1] / k[0])


def faithfulness(
    full: Float[np.ndarray, "*b"], empty: Float[np.ndarray, "*b"], circuit: Float[np.ndarray, "*c"]
) -> Float[np.ndarray, "*c"]:
    """``(circuit - empty) / (full - empty)`` of mean metrics; NaN where nothing is recoverable."""
    gap = np.asarray(full - empty, dtype=float)
    least = 1e-9 * np.maximum(1.0, np.maximum(np.abs(full), np.abs(empty)))
    gap = np.where(np.abs(gap) <= least, np.nan, gap)
    return (circuit - empty) / gap


def told_apart(full: Float[np.ndarray, " n"], empty: Float[np.ndarray, " n"]) -> bool:
    """Whether full and empty differ by more than 1.96 standard errors of their difference.

    Where they do not, the model does not do the task, and no share of it can be recovered.
    """
    gap = full - empty
    error = gap.std() / np.sqrt(max(len(gap) - 1, 1))
    known = np.isfinite(faithfulness(full.mean(), empty.mean(), full.mean()))
    return bool(known and abs(gap.mean()) > NOISE * error)
