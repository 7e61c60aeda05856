"""Choosing with more than one number per edge: several methods at once, and error bars.

The plain choices (the strongest, above a threshold, greedily from the logits) are
:func:`graphs.build.from_scores` and :func:`graphs.build.by_threshold`; choices that run the model
again are in :mod:`circuits.selection.prune`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from circuits.results.intervals import RESAMPLES, TAILS, draw, weights
from graphs import from_scores
from patching.scores import Scores
from tasks.errors import MethodError, all_faults

if TYPE_CHECKING:
    from graphs import CircuitGraph

TILE = 4096
"""Edges whose bootstrap samples are held at once."""


def ensemble(*scores: Scores, normalise: bool = True) -> Scores:
    """The mean of several methods' scores of the same edges or nodes, signs kept.

    Each method is first divided by the root mean square of its scores, so that none counts more
    for its scale, and the mean multiplied by the mean of those, so that it stays in units of the
    metric. Averages of attribution, integrated gradients and others did best among ensembles in
    the BlackboxNLP 2025 shared task (arXiv 2510.06811).

    Raises:
        MethodError: fewer than two, scores over different names, models, metrics or directions,
            or a method that gives nothing but zeros.
    """
    weights = ensemble_weights(scores, normalise)
    first = scores[0]
    mean = np.mean([w * each.values for w, each in zip(weights, scores, strict=True)], axis=0)
    return replace(
        first,
        totals=mean * first.count,
        squares=None,
        method="mean of " + ", ".join(each.method for each in scores),
        options=dict(zip(_told_apart(scores), (dict(s.options) for s in scores), strict=True)),
    )


def _told_apart(scores: Sequence[Scores]) -> list[str]:
    """The methods' names, numbered where one comes with several sets of options."""
    names = [each.method for each in scores]
    if len(set(names)) == len(names):
        return names
    return [f"{name} {i}" for i, name in enumerate(names, start=1)]


def ensemble_weights(scores: Sequence[Scores], normalise: bool = True) -> list[float]:
    """What every method's scores are multiplied by before the mean of :func:`ensemble` is taken.

    Raises:
        MethodError: as for :func:`ensemble`.
    """
    if len(scores) < 2:
        raise MethodError(f"an ensemble needs at least two methods' scores, given {len(scores)}")
    first, faults = scores[0], []
    for what in ("names", "level", "direction", "metric", "anatomy", "model_hash"):
        if any(getattr(each, what) != getattr(first, what) for each in scores):
            faults.append(f"their {what} differ")
    scales = [float(np.sqrt(np.mean(each.values**2))) for each in scores]
    faults += [
        f"{each.method} scores nothing but 0"
        for each, scale in zip(scores, scales, strict=True)
        if scale == 0 and normalise
    ]
    if faults:
        raise MethodError(all_faults("these scores cannot be averaged:", faults))
    return [float(np.mean(scales)) / scale if normalise else 1.0 for scale in scales]


def steady(
    scores: Scores,
    n: int | None = None,
    *,
    z: float = 1.96,
    rule: str = "top",
    absolute: bool = True,
) -> CircuitGraph:
    """The circuit among the edges whose interval ``score +- z standard errors`` excludes zero.

    ``n`` limits it further, by the ``rule`` of :func:`graphs.build.from_scores`. The normal
    interval stands for a bootstrap over prompts, which the sums kept in scores do not allow; see
    :func:`bootstrap_excludes_zero` for that one.

    Raises:
        MethodError: the scores carry no standard errors.
    """
    spread = scores.standard_error
    if spread is None:
        raise MethodError(
            f"{scores.method} scores carry no standard errors; score at least two prompts with one "
            f"method"
        )
    return among(scores, np.abs(scores.values) > z * spread, n, rule=rule, absolute=absolute)


def among(
    scores: Scores,
    kept: Bool[np.ndarray, " names"],
    n: int | None = None,
    *,
    rule: str = "top",
    absolute: bool = True,
) -> CircuitGraph:
    """A circuit chosen by a rule among some of the scored edges; ``n`` defaults to all of them."""
    names = tuple(name for name, keep in zip(scores.names, kept, strict=True) if keep)
    squares = None if scores.squares is None else scores.squares[kept]
    part = replace(scores, names=names, totals=scores.totals[kept], squares=squares)
    graph = from_scores(part, len(part) if n is None else n, rule=rule, absolute=absolute)
    return graph.with_info(selection=replace(graph.info.selection, considered=len(scores)))


def bootstrap_excludes_zero(
    per_prompt: Float[np.ndarray, "n names"], seed: int = 0, times: int = RESAMPLES
) -> Bool[np.ndarray, " names"]:
    """Whether the 95 % bootstrap interval over prompts of each mean score excludes zero.

    ``per_prompt`` comes from :func:`patching.scoring.prompt_scores`. Keeping such edges alone is
    the filter of the BlackboxNLP 2025 entry arXiv 2510.25786.
    """
    shares = weights(draw(len(per_prompt), seed, times))
    sure = []
    for start in range(0, per_prompt.shape[1], TILE):
        low, high = np.quantile(shares @ per_prompt[:, start : start + TILE], TAILS, axis=0)
        sure.append((low > 0) | (high < 0))
    return np.concatenate(sure) if sure else np.zeros(0, dtype=bool)
