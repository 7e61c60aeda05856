"""Crossing edges: what a head carries from a source position to a query position.

All other edges stay at one position of the residual stream. A head's output at query position
``q`` is a sum over source positions ``k`` of ``pattern[q, k] * v[k]``; each summand is an edge,
written ``a2.h3@5->a2.h3@9<v>``, and replacing it by its value in the other run is its effect
(position-aware edge attribution: Haklay et al. 2025).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from patching.activation import ExactSweep
from patching.anatomy import Anatomy
from patching.gradient_scores import combine
from patching.linearised import Kinds, Linearisation, Pass
from patching.norms import precise
from patching.ops import Point
from patching.runs import Batch
from patching.sites import Edge, head
from patching.sitesets import Labels, label_columns

KINDS = Kinds(read=("z", "pattern", "v_read"), scored=("z",))
"""Kinds of points of both runs that crossing edges need."""


def names(anatomy: Anatomy, labels: Labels) -> tuple[str, ...]:
    """Names in order: layer, head, query position, source position."""
    return tuple(
        Edge(head(layer, unit).at(source), head(layer, unit).at(query), "v").name
        for layer in range(anatomy.n_layers)
        for unit in range(anatomy.n_heads)
        for query in labels
        for source in labels
    )


def estimates(linearised: Linearisation, labels: Labels, batch: Batch) -> Float[Tensor, "b names"]:
    """Score of every crossing edge for every prompt, in the order of :func:`names`."""
    at = label_columns(labels, batch)
    layers = sorted(layer for kind, layer in linearised.clean if kind == "pattern")

    def one_pass(each: Pass) -> Tensor:
        parts = []
        for layer in layers:
            gradient = precise(_rows(each.gradients.grads["z", layer], at))
            both = [
                precise(_pattern(run, layer, at))
                * torch.einsum(
                    "bqhe,bkhe->bhqk", gradient, precise(_rows(run["v_read", layer], at))
                )
                for run in (linearised.clean, linearised.corrupted)
            ]
            part = (both[0] - both[1]).flatten(1)
            parts.append(part if each.speaks_for(("z", layer)) else torch.zeros_like(part))
        return torch.cat(parts, dim=1)

    return combine(linearised, one_pass)


@torch.no_grad()
def exact(sweep: ExactSweep, labels: Labels) -> Float[Tensor, "b names"]:
    """The exact effect of every crossing edge, in the order of :func:`names`."""
    at = label_columns(labels, sweep.setting.batch)
    prompts = torch.arange(len(at), device=at.device)
    effects = []
    for layer in range(sweep.setting.model.anatomy.n_layers):
        carried = [_carried(run, layer, at) for run in (sweep.kept.values, sweep.other)]
        change = (carried[1] - carried[0]).flatten(2, 3)
        base = sweep.kept.values["z", layer]
        for unit in range(base.shape[2]):
            for which in torch.arange(change.shape[2]).split(sweep.rows):
                rows = base.expand(len(which), *base.shape).clone()
                for row, cell in zip(rows, which.tolist(), strict=True):
                    row[prompts, at[:, cell // at.shape[1]], unit] += change[:, unit, cell]
                patched = rows[:, :, sweep.kept.first :].contiguous()
                effects.append(sweep.effect(sweep.kept.go_on("z", layer, patched)))
    return torch.cat(effects).T


def _carried(run: Mapping[Point, Tensor], layer: int, at: Tensor) -> Float[Tensor, "b h q k e"]:
    """``pattern[q, k] * v[k]`` at the labelled positions."""
    pattern, v = _pattern(run, layer, at), _rows(run["v_read", layer], at)
    return torch.einsum("bhqk,bkhe->bhqke", pattern, v)


def _rows(value: Float[Tensor, "b s h e"], at: Tensor) -> Float[Tensor, "b l h e"]:
    return torch.stack([row[columns] for row, columns in zip(value, at, strict=True)])


def _pattern(run: Mapping[Point, Tensor], layer: int, at: Tensor) -> Float[Tensor, "b h l l"]:
    pattern = run["pattern", layer]
    return torch.stack([row[:, c][:, :, c] for row, c in zip(pattern, at, strict=True)])
