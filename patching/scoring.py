"""Scoring: from a model, prompt pairs and a method to :class:`~patching.scores.Scores`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from patching.measure import BatchScores, Request, Sample, score_batches
from patching.metrics import Metric
from patching.model import Model
from patching.progress import Progress
from patching.scores import Scores
from tasks.pairs import PromptPairs

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
    batch_size: int = 32,
    progress: Progress | None = None,
    **options: Any,
) -> Scores:
    """Score every node, every edge, or every site of one kind.

    Options of the method are given by name, or written behind it: ``"ig:steps=3"``.
    ``level="site"`` scores the kind named by ``sites`` (``resid_pre``, ``z``, ``neuron``,
    ``expert``, ...).
    Sites and edges are scored at ``positions`` ``all`` (together), ``token`` (each) or ``named``
    (each that the task names); ``level="attention_edge"`` scores what each head carries from each
    such position to each other one.
    Scores are means over prompts in units of the metric; positive always means that the clean
    activation pushes the metric towards the clean answer. The batch size changes nothing but time
    and memory, and the rounding of sums: in float32, scores of other batch sizes differ by at most
    1e-5 of the largest. When a GPU runs out of memory it is halved and the work goes on.

    >>> scores = circuits.score(model, pairs, "ig:steps=3", level="node")
    >>> scores.ranked()[:3]
    ['input', 'a0.h2', 'm0']

    Raises:
        MethodError: an unknown method, level, option or metric, or a result that is not finite.
        SiteError: sites or positions that this model or these prompts do not have.
        TaskError: tokens outside the model's vocabulary.
    """
    request = Request.of(model, pairs, method, level, direction, metric, sites, positions, options)
    asked = _asked(level, sites, positions)
    total: Scores | None = None
    for batch in score_batches(model, pairs, request, batch_size, progress):
        piece = _piece(batch, _array(batch), request, asked, model, pairs)
        total = piece if total is None else total + piece
    assert total is not None
    return total


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
    batch_size: int = 32,
    progress: Progress | None = None,
    sample: Sample | None = None,
    **options: Any,
) -> tuple[Scores, Float[np.ndarray, "n names"]]:
    """Scores, and those of every single prompt, from which the scores of other draws follow.

    Arguments and errors are those of :func:`score`; memory grows with the number of prompts. With
    ``sample``, a number and a seed, no more sites than that are scored, drawn with the seed.
    """
    request = Request.of(
        model, pairs, method, level, direction, metric, sites, positions, options, sample
    )
    asked = _asked(level, sites, positions)
    total: Scores | None = None
    rows = []
    for batch in score_batches(model, pairs, request, batch_size, progress):
        rows.append(_array(batch))
        piece = _piece(batch, rows[-1], request, asked, model, pairs)
        total = piece if total is None else total + piece
    assert total is not None
    return total, np.concatenate(rows)


def _asked(level: str, sites: str, positions: str) -> dict[str, str]:
    """What was asked for beside the method's options, where it is not the default."""
    asked = {} if positions == "all" else {"positions": positions}
    return asked | ({"sites": sites} if level == "site" else {})


def _piece(
    batch: BatchScores,
    rows: Float[np.ndarray, "b names"],
    request: Request,
    asked: Mapping[str, str],
    model: Model,
    pairs: PromptPairs,
) -> Scores:
    """The scores of one batch."""
    return Scores(
        names=request.names,
        totals=rows.sum(0),
        squares=(rows**2).sum(0),
        count=len(rows),
        level=request.level,
        method=request.method,
        direction=request.direction,
        metric=request.metric.name,
        anatomy=model.anatomy,
        clean=float(batch.clean.detach().double().sum()),
        corrupted=float(batch.corrupted.detach().double().sum()),
        task=pairs.task,
        model_hash=model.hash,
        options={**request.options, **asked},
    )


def _array(batch: BatchScores) -> Float[np.ndarray, "b names"]:
    return batch.scores.detach().double().cpu().numpy()
