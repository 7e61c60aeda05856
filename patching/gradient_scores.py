"""Scores of sites and edges from a linearisation: ``delta . g``, per prompt.

For an edge, ``delta`` is what the sender writes and ``g`` the gradient at the receiver's input
port, carried back through the norm to the residual stream: edge attribution patching (Syed et al.
2023) when gradients are plain. Under grouped-query attention the key and value ports are those of
each query head, so that edges are per query head there too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.linearised import Kinds, Linearisation, Pass
from patching.model import Model
from patching.nodes.deltas import deltas, gradients, points_of, read_kinds, write_kinds
from patching.nodes.kind import Slopes
from patching.nodes.layout import Layout
from patching.norms import precise
from patching.ops import Point, Where, cut
from patching.runs import Batch
from patching.sitesets import Group, SiteSet, point_of, reduce_product
from patching.softmax_response import ANSWERED

Response = Callable[[Pass, Group], Tensor]


def edge_kinds(layout: Layout) -> Kinds:
    """Kinds of points that edge scores need; what is scored is what senders write."""
    scored = tuple(dict.fromkeys(point[0] for point in points_of(layout)))
    read = dict.fromkeys((*write_kinds(layout), *read_kinds(layout), *scored))
    return Kinds(tuple(read), scored)


TILE_BYTES = 16 * 2**20
"""How large a tile of writes may become before prompts or positions are taken apart.

Small, because a few copies of a tile are alive at once, and they are what would decide the peak of
memory; larger tiles are no faster.
"""


def site_scores(
    linearised: Linearisation, sites: SiteSet, batch: Batch, response: Response | None = None
) -> Float[Tensor, "b names"]:
    """Score of every site for every prompt, in units of the metric.

    ``response`` gives the scores of query and key sites where the softmax's answer to the patch is
    computed exactly (:mod:`patching.softmax_response`).
    """
    deltas = {group.point: linearised.delta(group.point) for group in sites.groups}

    def one_pass(each: Pass) -> Tensor:
        return torch.cat([one_group(each, group) for group in sites.groups], dim=1)

    def one_group(each: Pass, group: Group) -> Tensor:
        delta = deltas[group.point]
        if not each.speaks_for(group.point):
            return delta.new_zeros(len(delta), len(group.sites) * len(sites.labels))
        if response is not None and group.point[0] in ANSWERED:
            return response(each, group)
        per_unit = reduce_product(group.point[0], delta * each.gradients.grads[group.point])
        return sites.at_positions(per_unit, batch)

    return combine(linearised, one_pass)


def combine(linearised: Linearisation, one_pass: Callable[[Pass], Tensor]) -> Tensor:
    """The weighted sum over passes, or under GradDrop the summed sizes with the first's sign."""
    if linearised.dropped:
        first = one_pass(next(linearised.passes))
        sizes = [each.weight * one_pass(each).abs() for each in linearised.passes]
        return first.sign() * torch.stack(sizes).sum(0)
    total: Tensor | None = None
    for each in linearised.passes:
        part = each.weight * one_pass(each)
        total = part if total is None else total + part
    assert total is not None
    return total


def edge_scores(
    model: Model,
    linearised: Linearisation,
    layout: Layout,
    columns: Int[Tensor, "b labels"] | None = None,
) -> Float[Tensor, "b edges"]:
    """Score of every edge for every prompt, in the order of the layout.

    With ``columns``, at each of these positions instead of over all: edge by edge, then label by
    label.
    """
    if columns is None:
        return combine(linearised, lambda each: _edge_pass(model, linearised, layout, each))
    return combine(linearised, lambda each: _edges_at(model, linearised, layout, each, columns))


def _edges_at(
    model: Model,
    linearised: Linearisation,
    layout: Layout,
    each: Pass,
    columns: Int[Tensor, "b labels"],
) -> Float[Tensor, "b edges_labels"]:
    """Edge scores at single positions, prompt by prompt."""
    given = model, linearised, layout, each
    rows = []
    for prompt, at in enumerate(columns.tolist()):
        tiles = [edges_of_token(*given, prompt, column) for column in at]
        rows.append(torch.stack(tiles, dim=-1).flatten(1))
    return torch.cat(rows)


def edges_of_token(
    model: Model, linearised: Linearisation, layout: Layout, each: Pass, prompt: int, column: int
) -> Float[Tensor, "1 edges"]:
    """Edge scores of one pass at one token of one prompt."""
    where = slice(prompt, prompt + 1), slice(column, column + 1)
    return _edge_tile(model, linearised, layout, each, where)


def _edge_pass(
    model: Model, linearised: Linearisation, layout: Layout, each: Pass
) -> Float[Tensor, "b edges"]:
    size, length, width = linearised.clean["input", 0].shape
    row = layout.n_senders * width * linearised.clean["input", 0].element_size()
    prompts = max(1, TILE_BYTES // (row * length))
    columns = length if prompts > 1 else max(1, TILE_BYTES // row)
    rows = []
    for start in range(0, size, prompts):
        which = slice(start, start + prompts)
        parts = [
            _edge_tile(model, linearised, layout, each, (which, slice(at, at + columns)))
            for at in range(0, length, columns)
        ]
        rows.append(torch.stack(parts).sum(0) if len(parts) > 1 else parts[0])
    return torch.cat(rows)


def _edge_tile(
    model: Model, linearised: Linearisation, layout: Layout, each: Pass, where: Where
) -> Float[Tensor, "b edges"]:
    """``E(u -> r) = sum over s of delta_u[s] . g_r[s]``: some prompts, over some positions."""
    clean, corrupted = _cut(linearised.clean, where), _cut(linearised.corrupted, where)
    stack = deltas(model, layout, clean, corrupted).flatten(2)
    if each.covers is not None:
        stack = stack * _covered(layout, each).to(stack)[:, None]
    run, stop = each.gradients, where[1].stop
    ends = stop is None or stop >= run.values["resid_pre", 0].shape[1]
    slopes = Slopes(_cut(run.values, where), _cut(run.grads, where), each.ops, where, ends)
    parts = []
    for reads, gradient in gradients(model, layout, slopes):
        product = precise(gradient.flatten(2)) @ stack[:, :reads].transpose(1, 2)
        parts.append(product.flatten(1))
    return torch.cat(parts, dim=1)


def _covered(layout: Layout, each: Pass) -> Bool[Tensor, " u"]:
    """Which senders a pass speaks for."""
    groups = layout.senders
    spoken = [each.speaks_for(point_of(g.site(0))) for g in groups for _ in range(g.count)]
    return torch.tensor(spoken)


def _cut(values: dict[Point, Tensor], where: Where) -> dict[Point, Tensor]:
    return {point: cut(value, where) for point, value in values.items()}
