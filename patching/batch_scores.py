"""What one batch gives: scores of sites or edges by one method, prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from patching import (
    activation,
    attention_edges,
    exact_neurons,
    exact_receivers,
    placed_scores,
    softmax_response,
)
from patching.gradient_scores import edge_kinds, edge_scores, site_scores
from patching.linearised import Kinds, Linearise
from patching.nodes.layout import layout_of
from patching.places import place_numbers
from patching.progress import Step, unheard
from patching.setting import Setting
from patching.sitesets import Labels, SiteSet, label_columns


@dataclass(frozen=True)
class BatchScores:
    """What one batch gives: per-prompt scores and the metric in both runs."""

    scores: Float[Tensor, "b names"]
    clean: Float[Tensor, " b"]
    corrupted: Float[Tensor, " b"]


def together(setting: Setting, parts: Sequence[Any], count: int) -> BatchScores:
    """The scores of several requests, each at its places."""
    scored = [(part(setting), places) for part, places in parts]
    first = scored[0][0]
    kind = torch.promote_types(scored[0][0].scores.dtype, scored[-1][0].scores.dtype)
    scores = first.scores.new_empty(len(setting.batch), count, dtype=kind)
    for each, places in scored:
        scores[:, torch.from_numpy(places).to(scores.device)] = each.scores.to(kind)
    return replace(first, scores=scores)


@torch.no_grad()
def exact(
    setting: Setting, wanted: SiteSet | None, labels: Labels, crosses: bool, tell: Step
) -> BatchScores:
    """Exact effects of sites, of edges, or of what crosses between positions."""
    kinds = activation.EDGE_KINDS if wanted is None else wanted.kinds
    sweep = activation.ExactSweep(setting, attention_edges.KINDS.read if crosses else kinds)
    if crosses:
        crossing = attention_edges.exact(sweep, labels)
    elif wanted is not None:
        parts, scored = [], 0
        for part in sweep.sites(wanted):
            parts.append(part)
            scored += part.shape[1]
            tell(scored)
        crossing = torch.cat(parts, dim=1)
    else:
        crossing = _over(sweep, labels, tell)
    other = setting.metric(sweep.other_logits, setting.batch.pairs)
    clean, corrupted = setting.ordered(sweep.base, other)
    return BatchScores(crossing, clean, corrupted)


def crossing(setting: Setting, labels: Labels, linearise: Linearise) -> BatchScores:
    """What heads carry from one position to another, estimated."""
    gradients = linearise(setting, attention_edges.KINDS)
    scores = attention_edges.estimates(gradients, labels, setting.batch)
    return BatchScores(scores, gradients.metric_clean, gradients.metric_corrupted)


@torch.no_grad()
def edges_answered(setting: Setting, labels: Labels, linearise: Linearise) -> BatchScores:
    """Edges whose receivers answer exactly."""
    gradients = linearise(setting, exact_receivers.KINDS)
    sweep = exact_receivers.ReceiverSweep(setting, gradients)
    return BatchScores(_over(sweep, labels), gradients.metric_clean, gradients.metric_corrupted)


def neuron_edges(setting: Setting) -> BatchScores:
    """Exact effects between heads and neurons, by their definition."""
    return BatchScores(*exact_neurons.edges(setting))


def _over(sweep: activation.ExactSweep, labels: Labels, tell: Step = unheard) -> Tensor:
    """All edges, over all positions or at each labelled one."""
    if labels == (None,):
        return sweep.edges(tell=tell)
    masks = softmax_response.label_masks(labels, sweep.setting, sweep.kept.first)
    return torch.stack([sweep.edges(at) for at in masks], dim=-1).flatten(1)


def edges(setting: Setting, labels: Labels, linearise: Linearise, nodes: str) -> BatchScores:
    """Edges, over all positions or at each labelled one, estimated."""
    layout = layout_of(setting.model.anatomy, nodes)
    gradients = linearise(setting, edge_kinds(layout, setting.model))
    columns = None if labels == (None,) else label_columns(labels, setting.batch)
    scores = edge_scores(setting.model, gradients, layout, columns)
    return BatchScores(scores, gradients.metric_clean, gradients.metric_corrupted)


def estimate(setting: Setting, wanted: SiteSet, linearise: Linearise) -> BatchScores:
    """Sites, estimated."""
    gradients = linearise(setting, Kinds.scoring(wanted.kinds))
    scores = wanted.select(site_scores(gradients, wanted, setting.batch))
    return BatchScores(scores, gradients.metric_clean, gradients.metric_corrupted)


def estimate_with_response(setting: Setting, wanted: SiteSet, linearise: Linearise) -> BatchScores:
    """Query and key sites answered by the exact softmax (the QK fix)."""
    gradients = linearise(setting, Kinds.scoring(wanted.kinds).also(*softmax_response.KINDS))
    response = softmax_response.SoftmaxResponse(setting, gradients, wanted)
    scores = wanted.select(site_scores(gradients, wanted, setting.batch, response))
    return BatchScores(scores, gradients.metric_clean, gradients.metric_corrupted)


def placed(setting: Setting, labels: Labels, linearise: Linearise | None) -> BatchScores:
    """Edges at places, and crossing edges between them; exactly without a linearisation."""
    at, count = place_numbers(labels, setting.batch), len(labels)
    if linearise is None:
        with torch.no_grad():
            sweep = activation.ExactSweep(setting, placed_scores.EXACT_KINDS)
            other = setting.metric(sweep.other_logits, setting.batch.pairs)
        clean, corrupted = setting.ordered(sweep.base, other)
        return BatchScores(placed_scores.exact(sweep, at, count), clean, corrupted)
    layout = layout_of(setting.model.anatomy)
    gradients = linearise(setting, placed_scores.kinds(layout))
    scores = placed_scores.estimates(setting.model, gradients, layout, at, count)
    return BatchScores(scores, gradients.metric_clean, gradients.metric_corrupted)
