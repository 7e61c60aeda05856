"""Scores of sites and edges from a linearisation: ``delta . g``, per prompt.

For an edge, ``delta`` is what the sender writes and ``g`` the gradient at the receiver's input
port, carried back through the norm to the residual stream: edge attribution patching (Syed et al.
2023) when gradients are plain. Under grouped-query attention the key and value ports are those of
each query head, so that edges are per query head there too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching import writes
from patching.linearised import Kinds, Linearisation, Pass
from patching.model import Model
from patching.norms import precise
from patching.ops import Point, Where, cut
from patching.ports import INSIDE, reads_vjp
from patching.runs import Batch
from patching.sites import senders
from patching.sitesets import Group, SiteSet, point_of, reduce_product
from patching.softmax_response import ANSWERED

Response = Callable[[Pass, Group], Tensor]

EDGE_KINDS = Kinds(
    read=(*writes.KINDS, "resid_pre", *INSIDE, "q", "k_read", "v_read", "mlp_in", "final_in"),
    scored=("input", "z", "mlp_out"),
)
"""Kinds of points that edge scores need; what is scored is what senders write."""

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
    model: Model, linearised: Linearisation, columns: Int[Tensor, "b labels"] | None = None
) -> Float[Tensor, "b edges"]:
    """Score of every edge for every prompt, in the order of :func:`patching.sites.edges`.

    With ``columns``, at each of these positions instead of over all: edge by edge, then label by
    label.
    """
    if columns is None:
        return combine(linearised, lambda each: _edge_pass(model, linearised, each))
    return combine(linearised, lambda each: _edges_at(model, linearised, each, columns))


def _edges_at(
    model: Model, linearised: Linearisation, each: Pass, columns: Int[Tensor, "b labels"]
) -> Float[Tensor, "b edges_labels"]:
    """Edge scores at single positions, prompt by prompt."""
    rows = []
    for prompt, at in enumerate(columns):
        tiles = [
            _edge_tile(
                model, linearised, each, (slice(prompt, prompt + 1), slice(int(c), int(c) + 1))
            )
            for c in at
        ]
        rows.append(torch.stack(tiles, dim=-1).flatten(1))
    return torch.cat(rows)


def _edge_pass(model: Model, linearised: Linearisation, each: Pass) -> Float[Tensor, "b edges"]:
    size, length, width = linearised.clean["input", 0].shape
    senders = model.anatomy.n_layers * (model.anatomy.n_heads + 1) + 1
    row = senders * width * linearised.clean["input", 0].element_size()
    prompts = max(1, TILE_BYTES // (row * length))
    columns = length if prompts > 1 else max(1, TILE_BYTES // row)
    rows = []
    for start in range(0, size, prompts):
        which = slice(start, start + prompts)
        parts = [
            _edge_tile(model, linearised, each, (which, slice(at, at + columns)))
            for at in range(0, length, columns)
        ]
        rows.append(torch.stack(parts).sum(0) if len(parts) > 1 else parts[0])
    return torch.cat(rows)


def _edge_tile(
    model: Model, linearised: Linearisation, each: Pass, where: Where
) -> Float[Tensor, "b edges"]:
    """Edge scores of some prompts, summed over some positions."""
    clean, corrupted = _cut(linearised.clean, where), _cut(linearised.corrupted, where)
    values, grads = _cut(each.gradients.values, where), _cut(each.gradients.grads, where)
    stack = writes.all_deltas(model, clean, corrupted).flatten(2)
    stack = stack * _covered(model, each).to(stack)[:, None] if each.covers else stack
    parts = []
    for count, gradient in port_gradients(model, values, grads, each, where):
        product = precise(gradient.flatten(2)) @ stack[:, :count].transpose(1, 2)
        parts.append(product.flatten(1))
    return torch.cat(parts, dim=1)


def _covered(model: Model, each: Pass) -> Bool[Tensor, " u"]:
    """Which senders a pass speaks for."""
    return torch.tensor([each.speaks_for(point_of(site)) for site in senders(model.anatomy)])


def port_gradients(
    model: Model,
    values: dict[Point, Tensor],
    grads: dict[Point, Tensor],
    each: Pass,
    where: Where,
) -> Iterator[tuple[int, Float[Tensor, "b r s d"]]]:
    """Per group of ports: how many senders it reads, and the gradient at its residual input."""
    units = model.anatomy.n_heads + 1
    for layer, block in enumerate(model.blocks):
        point = ("resid_pre", layer)
        vjp = each.ops.norm_vjp(block.ln1, values[point], point, where)
        at_norm = [
            reads_vjp(block, port, grads[kind, layer], values, each.ops, where)
            for kind, port in (("q", "q"), ("k_read", "k"), ("v_read", "v"))
        ]
        yield 1 + units * layer, vjp(torch.cat(at_norm, dim=1))
        reads = units * layer + (1 if model.anatomy.parallel else units)
        yield reads, grads["mlp_in", layer][:, None]
    last = model.anatomy.n_layers
    at_end = torch.zeros_like(values["resid_pre", 0])
    if where[1].stop is None or where[1].stop >= each.gradients.values["resid_pre", 0].shape[1]:
        at_end[:, -1] = grads["final_in", last]
    yield 1 + units * last, at_end[:, None]


def _cut(values: dict[Point, Tensor], where: Where) -> dict[Point, Tensor]:
    return {point: cut(value, where) for point, value in values.items()}
