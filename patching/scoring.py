"""Scoring: from a model, prompt pairs and a method to :class:`~patching.scores.Scores`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from patching.batch_scores import BatchScores
from patching.choice import CHECKED, Check
from patching.choices import Direction, MethodName, MetricName, Nodes, Positions, ScoreLevel
from patching.costs import exact_blocks
from patching.measure import EXACT, Request, Sample, score_batches
from patching.methods import check_effect, get
from patching.metrics import Metric
from patching.model import Model
from patching.places import described
from patching.progress import Progress
from patching.scores import Scores
from patching.sizes import bytes_of
from patching.sweep import Sweep, added
from tasks.pairs import PromptPairs

Rows = Float[np.ndarray, "b names"]

DEFAULT = "auto"
"""Single sites told right, edges by ``secant``: see docs/explanation/single_sites.md."""


def score(
    model: Model,
    pairs: PromptPairs,
    method: MethodName | str = DEFAULT,
    level: ScoreLevel = "edge",
    direction: Direction = "noising",
    metric: MetricName | Metric = "logit_diff",
    *,
    sites: str = "node",
    positions: Positions = "all",
    nodes: Nodes = "heads",
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
    such position to each other one. ``level="placed"`` scores both kinds of edges at ``token`` or
    ``named`` places (:mod:`patching.places`), of which circuits can be run. ``nodes`` says what
    nodes and edges are made of: ``heads`` and whole MLPs, or heads and single ``neurons``.
    ``method="auto"`` does single sites exactly where that is cheap and estimates the others, with a
    check (:attr:`patching.scores.Scores.chosen`); edges it scores by ``secant``.
    Scores are means over prompts in units of the metric; positive always means that the clean
    activation pushes the metric towards the clean answer. Those of ``learned`` are shares between 0
    and 1 of the circuits that need an edge or node, and the same in both directions. Rows that are
    tokens of one prompt's answer are one prompt: errors are over prompts. The batch size changes
    nothing but time and memory, and the rounding of sums: in float32, scores of other batch sizes
    differ by at most 1e-5 of the largest. When memory runs out it is halved and the work goes on.
    ``memory``, such as ``"20GB"``, is what gradients may take beside the model: if all graphs of a
    backward pass do not fit, every block runs twice and one graph is held at a time, else batches
    are halved. What was picked is said in the progress.

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
    loops, given = Sweep.of(batch_size, progress), _given(level, sites, positions, nodes)
    if memory is not None:
        loops = replace(loops, memory=bytes_of(memory))
    if get(request.method).tier == "set":
        return _learned(request, model, pairs, nodes, loops)
    if len(pairs.prompt):
        return _by_prompt(model, pairs, request, given, loops)[0]
    parts = score_batches(model, pairs, request, _totals, loops)
    return checked(_scores(parts, request, given, model, pairs), request, model, pairs, loops)


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
    ``sample``, a number and a seed, no more sites than that are scored, drawn with the seed. Of a
    prompt of several rows the score is their sum, scaled so that the mean over prompts is that over
    rows (:meth:`PromptPairs.by_prompt`).
    """
    request = Request.of(
        model, pairs, method, level, direction, metric, sites, positions, options, sample, nodes
    )
    check_effect(request.method, "a score of every single prompt")
    loops, given = Sweep.of(batch_size, progress), _given(level, sites, positions, nodes)
    return _by_prompt(model, pairs, request, given, loops)


def _by_prompt(
    model: Model, pairs: PromptPairs, request: Request, given: Mapping[str, str], loops: Sweep
) -> tuple[Scores, Rows]:
    """Scores with those of every prompt; sums and errors are over prompts, not over their rows."""
    parts = [*score_batches(model, pairs, request, _each, loops)]
    each = np.concatenate([rows for rows, _ in parts])
    if not len(pairs.prompt):
        totals = ((rows.sum(0), (rows**2).sum(0), ends) for rows, ends in parts)
        scores = _scores(totals, request, given, model, pairs)
        return checked(scores, request, model, pairs, loops), each
    each = pairs.by_prompt(each.T).T
    ends = np.sum([ends for _, ends in parts], axis=0) * (pairs.prompts / len(pairs))
    whole = each.sum(0), (each**2).sum(0), ends
    scores = _scores([whole], request, given, model, pairs)
    return checked(scores, request, model, pairs, loops), each


def _learned(
    request: Request, model: Model, pairs: PromptPairs, nodes: str, options: Sweep
) -> Scores:
    """The shares of a training, with what it was trained on among the options."""
    from patching.learned.learn import learned

    result = learned(model, pairs, request, options)
    return Scores(
        names=request.names,
        totals=result.shares * len(pairs),
        count=len(pairs),
        level=request.level,
        method=request.method,
        direction=request.direction,
        metric=request.metric.name,
        anatomy=model.anatomy,
        clean=result.clean,
        corrupted=result.corrupted,
        task=pairs.task,
        model_hash=model.hash,
        options={**request.options, **_given(request.level, "node", "all", nodes), **result.told},
    )


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
    """The sums over prompts of all batches, in their order, as scores."""
    totals, squares, ends = added(parts)
    placed = request.level == "placed"
    places = described(given["positions"], pairs) if placed else {}
    return Scores(
        names=request.names,
        totals=totals,
        squares=squares,
        count=pairs.prompts,
        level="edge" if request.level == "placed" else request.level,
        method=request.method,
        direction=request.direction,
        metric=request.metric.name,
        anatomy=model.anatomy,
        clean=float(ends[0]),
        corrupted=float(ends[1]),
        task=pairs.task,
        model_hash=model.hash,
        options={**request.options, **given, **places},
        chosen=request.chosen,
    )


def checked(
    scores: Scores, request: Request, model: Model, pairs: PromptPairs, options: Sweep
) -> Scores:
    """With some of the sites that ``auto`` estimated done exactly beside them.

    Half of them are the strongest, the others drawn: what the estimate puts first is what is read,
    and what it wrongly takes for small is among the rest.
    """
    chosen, wanted = request.chosen, request.wanted
    if chosen is None or wanted is None or not chosen.estimated:
        return scores
    _, places = wanted.split(chosen.estimated)
    ranked = places[np.argsort(-np.abs(scores.values[places]), kind="stable")]
    strong, others = ranked[: CHECKED // 2], ranked[CHECKED // 2 :]
    count = min(len(others), CHECKED // 2)
    drawn = np.sort(np.random.default_rng(0).choice(others, count, replace=False))
    some = np.array([*strong.tolist(), *drawn.tolist()], dtype=int)
    exact = request.of_sites(wanted.at(some.tolist()), EXACT)
    totals, *_ = added(score_batches(model, pairs, exact, _totals, options))
    effects = (totals / len(pairs))[np.argsort(np.argsort(some))]
    check = Check.of(effects, scores.values[some], len(strong))
    cost = chosen.cost + exact_blocks(exact.wanted or wanted, pairs, model.anatomy)
    return replace(scores, chosen=replace(chosen, check=check, cost=cost))
