"""Scoring: from a model, prompt pairs and a method to :class:`~patching.scores.Scores`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from patching import activation, softmax_response
from patching.gradient_scores import EDGE_KINDS, edge_scores, site_scores
from patching.linearise import Linearise, Setting, check_direction
from patching.methods import get, linearisation
from patching.metrics import CheckedMetric, Metric, check_metric
from patching.model import Model
from patching.runs import Batch, batches
from patching.scores import Scores
from patching.sites import edges
from patching.sitesets import SiteSet, site_set
from tasks.errors import MethodError, unknown
from tasks.pairs import PromptPairs

Progress = Callable[[int, int, str], None]

LEVELS = ("node", "edge", "site")


@dataclass(frozen=True)
class Measured:
    """What one batch gives: per-prompt scores and the metric in both runs."""

    scores: Float[Tensor, "b names"]
    clean: Float[Tensor, " b"]
    corrupted: Float[Tensor, " b"]


def score(
    model: Model,
    pairs: PromptPairs,
    method: str = "relevance",
    level: str = "edge",
    direction: str = "noising",
    metric: str | Metric = "logit_diff",
    *,
    sites: str = "node",
    positions: str = "all",
    batch_size: int = 32,
    progress: Progress | None = None,
    **options: Any,
) -> Scores:
    """Score every node, every edge, or every site of one kind.

    ``level="site"`` scores the kind named by ``sites`` (``resid_pre``, ``z``, ``neuron``, ...), at
    ``positions`` ``all`` (together), ``token`` (each) or ``named`` (each that the task names).
    Scores are means over prompts in units of the metric; positive always means that the clean
    activation pushes the metric towards the clean answer. The batch size changes nothing but the
    time and memory taken; when a GPU runs out of memory it is halved and the work goes on.

    Raises:
        MethodError: an unknown method, level, option or metric, or a result that is not finite.
        SiteError: sites or positions that this model or these prompts do not have.
        TaskError: tokens outside the model's vocabulary.
    """
    chosen = get(method)
    filled = chosen.check(options)
    check_direction(direction)
    if level not in LEVELS:
        raise MethodError(unknown("level", level, LEVELS))
    checked = check_metric(metric)
    wanted = None
    if level != "edge":
        wanted = site_set("node" if level == "node" else sites, model.anatomy, pairs, positions)
        names = wanted.names
    else:
        names = tuple(edge.name for edge in edges(model.anatomy))
    measure = _measure(method, filled, wanted)
    empty = Scores(
        names=names,
        totals=torch.zeros(len(names), dtype=torch.float64).numpy(),
        count=1,
        level=level,
        method=method,
        direction=direction,
        metric=checked.name,
        anatomy=model.anatomy,
        task=pairs.task,
        model_hash=model.hash,
        options=filled | ({} if level != "site" else {"sites": sites, "positions": positions}),
    )
    return _add_up(model, pairs, checked, empty, measure, batch_size, progress)


def _measure(
    method: str, options: dict[str, Any], wanted: SiteSet | None
) -> Callable[[Setting], Measured]:
    if method == "activation":
        return lambda setting: _exact(setting, wanted)
    linearise = linearisation(method, options)
    fixed = method == "ensemble" or bool(options.get("qk_fix"))
    if wanted is None or not fixed or not {"q", "k"} & set(wanted.kinds):
        return lambda setting: _estimate(setting, wanted, linearise)
    return lambda setting: _estimate_with_response(setting, wanted, linearise)


@torch.no_grad()
def _exact(setting: Setting, wanted: SiteSet | None) -> Measured:
    kinds = activation.EDGE_KINDS if wanted is None else wanted.kinds
    sweep = activation.ExactSweep(setting, kinds)
    found = sweep.edges() if wanted is None else torch.cat(list(sweep.sites(wanted)), dim=1)
    other = setting.metric(sweep.other_logits, setting.batch.pairs)
    clean, corrupted = (sweep.base, other) if setting.sign() > 0 else (other, sweep.base)
    return Measured(found, clean, corrupted)


def _estimate(setting: Setting, wanted: SiteSet | None, linearise: Linearise) -> Measured:
    found = linearise(setting, EDGE_KINDS if wanted is None else wanted.kinds)
    if wanted is None:
        scores = edge_scores(setting.model, found)
    else:
        scores = site_scores(found, wanted, setting.batch)
    return Measured(scores, found.metric_clean, found.metric_corrupted)


def _estimate_with_response(setting: Setting, wanted: SiteSet, linearise: Linearise) -> Measured:
    """Query and key sites answered by the exact softmax (the QK fix)."""
    found = linearise(setting, tuple(dict.fromkeys((*wanted.kinds, *softmax_response.KINDS))))
    response = softmax_response.SoftmaxResponse(setting, found, wanted)
    scores = site_scores(found, wanted, setting.batch, response)
    return Measured(scores, found.metric_clean, found.metric_corrupted)


def _add_up(
    model: Model,
    pairs: PromptPairs,
    metric: CheckedMetric,
    empty: Scores,
    measure: Callable[[Setting], Measured],
    size: int,
    progress: Progress | None,
) -> Scores:
    if size < 1:
        raise MethodError(f"batch_size must be at least 1, given {size}")
    total: Scores | None = None
    done = 0
    while done < len(pairs):
        part = pairs[done : done + size]
        try:
            (batch,) = batches(model, part, size)
            measured = measure(Setting(model, batch, metric, empty.direction))
        except torch.cuda.OutOfMemoryError:
            if len(part) == 1:
                raise
            size = len(part) // 2
            torch.cuda.empty_cache()
            continue
        piece = _to_scores(empty, measured, batch)
        total = piece if total is None else total + piece
        done += len(part)
        if progress:
            progress(done, len(pairs), f"{empty.method} {empty.level} scores")
    assert total is not None
    return total


def _to_scores(empty: Scores, measured: Measured, batch: Batch) -> Scores:
    per_prompt = measured.scores.detach().double().cpu().numpy()
    return replace(
        empty,
        totals=per_prompt.sum(0),
        squares=(per_prompt**2).sum(0),
        count=len(batch),
        clean=float(measured.clean.detach().double().sum()),
        corrupted=float(measured.corrupted.detach().double().sum()),
    )
