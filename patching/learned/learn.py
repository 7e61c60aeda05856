"""Learned scores: narrowed candidates, a training, and one share for every edge or node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from patching.learned.inputs import Prepared, first_difference
from patching.learned.losses import Loss
from patching.learned.rest import followed
from patching.learned.settings import METHOD, Settings
from patching.learned.training import Trained, Training, split, with_scale
from patching.metrics import CheckedMetric
from patching.model import Model
from patching.nodes.layout import layout_of
from patching.runs import check_tokens
from patching.sweep import Sweep
from tasks.errors import MethodError
from tasks.pairs import PromptPairs

if TYPE_CHECKING:
    from patching.measure import Request


DIGITS = 5
"""Of sizes that rank what is not trained, in parts of the largest."""


@dataclass(frozen=True)
class Learned:
    """A ranking: shares of all edges or nodes, and what it was made with.

    ``clean`` and ``corrupted`` are sums of the metric over all pairs.
    """

    shares: Float[np.ndarray, " all"]
    clean: float
    corrupted: float
    told: dict[str, Any]


def learned(model: Model, pairs: PromptPairs, request: Request, options: Sweep) -> Learned:
    """Train one score for every edge or node; see :mod:`patching.learned.training`.

    Raises:
        MethodError: a loss that the metric cannot give, or both runs have the same metric.
        TaskError: tokens that the model does not have.
    """
    settings = Settings.of(request.options)
    settings.check_metric(request.metric.name)
    check_tokens(model, pairs)
    edges = request.level == "edge"
    count = settings.count(len(request.names))
    cheap = _cheap(model, pairs, request, options)
    chosen = _strongest(cheap, count)
    layout = layout_of(model.anatomy, request.nodes)
    first = first_difference(pairs) if edges else 0
    metric: CheckedMetric = request.metric
    logits = settings.loss == "kl"
    prepared = Prepared(model, pairs, layout, metric, first, logits)
    with model.reading():
        full, empty = _ends(prepared, options.batch_size)
        loss = with_scale(Loss(settings.loss, metric), full, empty)
        if loss.scale == 0:
            raise MethodError(
                f"{metric.name} is the same in the clean and the corrupted run of every pair, so "
                f"no circuit can be learned from them"
            )
        owners = pairs.prompt if len(pairs.prompt) else np.arange(len(pairs))
        parts = split(owners, settings.seed)
        training = Training(prepared, loss, chosen, settings, *parts, edges=edges)
        trained = training.carried_out(options)
        shares, decided = trained.shares, count
        if settings.rest == "secant" and settings.masks == "budget" and len(trained.held_out):
            shares, decided = followed(training, shares, cheap[chosen])
    shares = _whole(shares, chosen, cheap)
    options_used = _told(trained, pairs, count) | {"training_decides": decided}
    return Learned(shares, float(full.double().sum()), float(empty.double().sum()), options_used)


def _ends(prepared: Prepared, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The metric of all pairs in both runs."""
    rows = np.arange(len(prepared.pairs))
    parts = [prepared.at(rows[start : start + size]) for start in range(0, len(rows), size)]
    return torch.cat([each.full for each in parts]), torch.cat([each.empty for each in parts])


def _cheap(
    model: Model, pairs: PromptPairs, request: Request, options: Sweep
) -> Float[np.ndarray, " all"]:
    """Sizes of two-run secants, which say what is worth training.

    Rounded, so that what is the same but for rounding stays in the order of computation.
    """
    from patching.scoring import score

    nodes: Any = request.nodes
    what: tuple[Any, ...] = "secant", request.level, request.direction, request.metric.function
    scores = score(model, pairs, *what, nodes=nodes, batch_size=options.afresh())
    sizes = np.abs(scores.values)
    return np.round(sizes / max(sizes.max(), np.finfo(float).tiny), DIGITS)


def _strongest(ranking: Float[np.ndarray, " all"], count: int) -> Bool[np.ndarray, " all"]:
    chosen = np.zeros(len(ranking), dtype=bool)
    chosen[np.argsort(-ranking, kind="stable")[:count]] = True
    return chosen


def _whole(
    shares: Float[np.ndarray, " n"],
    chosen: Bool[np.ndarray, " all"],
    cheap: Float[np.ndarray, " all"],
) -> Float[np.ndarray, " all"]:
    """Shares of all: those that were not trained come last, in the order of the cheap ranking."""
    every = np.zeros(len(chosen))
    every[chosen] = shares
    rest = np.flatnonzero(~chosen)
    # From the weakest on; equal ones in the order of computation, from the last.
    order = rest[np.argsort(-cheap[rest], kind="stable")][::-1]
    every[order] = shares.min() * np.arange(1, len(rest) + 1) / (len(rest) + 1)
    return every


def _told(trained: Trained, pairs: PromptPairs, candidates: int) -> dict[str, Any]:
    """What a result says of its training, as plain values."""
    return {
        "trained_on": pairs.digest,
        "pairs_learned": len(trained.learned_on),
        "pairs_held_out": len(trained.held_out),
        "steps_done": trained.steps,
        "candidates_trained": candidates,
        "held_out_losses": [round(loss, 6) for loss in trained.losses],
    }


__all__ = ["METHOD", "Learned", "learned"]
