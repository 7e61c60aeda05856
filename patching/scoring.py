"""Scoring: from a model, prompt pairs and a method to :class:`~patching.scores.Scores`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from patching.measure import BatchScores, Request, Sample, score_batches
from patching.metrics import Metric
from patching.model import Model
from patching.progress import Progress
from patching.scores import Scores
from patching.sizes import bytes_of
from patching.sweep import Sweep, added
from tasks.pairs import PromptPairs

Rows = Float[np.ndarray, "b names"]

DEFAULT = "secant"
"""The recommended method: see the table that ``circuits validate`` prints."""


def score(
    model: Model,
    pairs: PromptPairs,
    method: str = DEFAULT,
    level: str = "edge",
    direction: str = "noising",
    metric: str | Metric = "logit_diff",
    *,
    sites: str = "node",
    positions: str = "all",
    nodes: str = "heads",
    batch_size: int | Sweep = 32,
    memory: str | int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Scores:
    """Score every node, every edge, or every site of one kind.

    Options of the method are given by name, or written behind it: ``"ig:steps=3"``.
    ``level="site"`` scores the kind named by ``sites`` (``resid_pre``, ``z``, ``neuron``,
    ``expert``, ...).
    Sites and edges are scored at ``positions`` ``all`` (together), ``token`` (each) or ``named``
    (each that the task names); ``level="attention_edge"`` scores what each head carries from each
    such position to each other one. ``nodes`` says what nodes and edges are made of: ``heads`` and
    whole MLPs, or heads and single ``neurons``.
    Scores are means over prompts in units of the metric; positive always means that the clean
    activation pushes the metric towards the clean answer. The batch size changes nothing but time
    and memory, and the rounding of sums: in float32, scores of other batch sizes differ by at most
    1e-5 of the largest. When memory runs out it is halved and the work goes on. ``memory``, such
    as ``"20GB"``, is what gradients may take beside the model: if all graphs of a backward pass do
    not fit, every block runs twice and one graph is held at a time, else batches are halved. What
    was picked is said in the progress.

    >>> scores = circuits.score(model, pairs, "ig:steps=3", level="node")
    >>> scores.ranked()[:3]
    ['input', 'a0.h2', 'm0']

    Raises:
        MethodError: an unknown method, level, option or metric, or a result that is not finite.
        SiteError: sites or positions that this model or these prompts do not have.
        TaskError: tokens outside the model's vocabulary.
    """
    where = sites, positions, options
    request = Request.of(model, pairs, method, level, direction, metric, *where, nodes=nodes)
    sweep = Sweep.of(batch_size, progress)
    if memory is not None:
        sweep = replace(sweep, memory=bytes_of(memory))
    parts = score_batches(model, pairs, request, _totals, sweep)
    return _scores(parts, request, _given(level, sites, positions, nodes), model, pairs)


def prompt_scores(
    model: Model,
    pairs: PromptPairs,
    method: str = DEFAULT,
    level: str = "edge",
    direction: str = "noising",
    metric: str | Metric = "logit_diff",
    *,
    sites: str = "node",
    positions: str = "all",
    nodes: str = "heads",
    batch_size: int | Sweep = 32,
    progress: Progress | None = None,
    sample: Sample | None = None,
    **options: Any,
) -> tuple[Scores, Float[np.ndarray, "n names"]]:
    """Scores, and those of every single prompt, from which the scores of other draws follow.

    Arguments and errors are those of :func:`score`; memory grows with the number of prompts. With
    ``sample``, a number and a seed, no more sites than that are scored, drawn with the seed.
    """
    request = Request.of(
        model, pairs, method, level, direction, metric, sites, positions, options, sample, nodes
    )
    parts = [*score_batches(model, pairs, request, _each, Sweep.of(batch_size, progress))]
    totals = ((rows.sum(0), (rows**2).sum(0), ends) for rows, ends in parts)
    scores = _scores(totals, request, _given(level, sites, positions, nodes), model, pairs)
    return scores, np.concatenate([rows for rows, _ in parts])


def _given(level: str, sites: str, positions: str, nodes: str) -> dict[str, str]:
    """What was asked for beside the method's options, where it is not the default."""
    given = {} if positions == "all" else {"positions": positions}
    given |= {} if nodes == "heads" else {"nodes": nodes}
    return given | ({"sites": sites} if level == "site" else {})


def _each(batch: BatchScores) -> tuple[Rows, Float[np.ndarray, " 2"]]:
    """Every prompt's scores, and the sums of the metric in both runs."""
    ends = [float(run.detach().double().sum()) for run in (batch.clean, batch.corrupted)]
    return batch.scores.detach().double().cpu().numpy(), np.array(ends)


def _totals(batch: BatchScores) -> tuple[np.ndarray, ...]:
    """Sums over the prompts: of the scores, of their squares, and of the metric in both runs."""
    rows, ends = _each(batch)
    return rows.sum(0), (rows**2).sum(0), ends


def _scores(
    parts: Iterable[tuple[np.ndarray, ...]],
    request: Request,
    given: Mapping[str, str],
    model: Model,
    pairs: PromptPairs,
) -> Scores:
    """The sums of all batches, in their order, as scores."""
    totals, squares, ends = added(parts)
    return Scores(
        names=request.names,
        totals=totals,
        squares=squares,
        count=len(pairs),
        level=request.level,
        method=request.method,
        direction=request.direction,
        metric=request.metric.name,
        anatomy=model.anatomy,
        clean=float(ends[0]),
        corrupted=float(ends[1]),
        task=pairs.task,
        model_hash=model.hash,
        options={**request.options, **given},
    )
