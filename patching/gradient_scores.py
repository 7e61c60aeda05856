"""Scores of sites and edges from a linearisation: ``delta . g``, per prompt.

For an edge, ``delta`` is what the sender writes and ``g`` the gradient at the receiver's input
port, carried back through the norm to the residual stream: edge attribution patching (Syed et al.
2023) when gradients are plain. Under grouped-query attention the key and value ports are those of
each query head, so that edges are per query head there too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.linearised import Kinds, Linearisation, Pass
from patching.model import Model
from patching.nodes.deltas import (
    deltas,
    gradients,
    points_of,
    read_kinds,
    value_kinds,
    write_kinds,
)
from patching.nodes.gradients import PortGradient
from patching.nodes.kind import Slopes
from patching.nodes.layout import Layout, Ports
from patching.norms import precise
from patching.ops import Point, Where, cut
from patching.runs import Batch
from patching.sitesets import Group, SiteSet, point_of, reduce_product
from patching.softmax_response import ANSWERED

Response = Callable[[Pass, Group], Tensor]


def edge_kinds(layout: Layout, model: Model | None = None) -> Kinds:
    """Kinds of points that edge scores need; what is scored is what senders write.

    A ``model`` without post-norms needs nothing of what stands before them.
    """
    scored = tuple(dict.fromkeys(point[0] for point in points_of(layout)))
    writes = write_kinds(layout)
    if model is not None and all(b.ln1_post is b.ln2_post is None for b in model.blocks):
        writes = tuple(kind for kind in writes if kind not in ("attn_raw", "mlp_raw"))
    read = tuple(dict.fromkeys((*writes, *scored)))
    return Kinds(read, scored, graded=read_kinds(layout), here=value_kinds(layout))


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

    ``E(u -> r) = sum over s of delta_u[s] . g_r[s]``, for a tile of prompts and positions at a
    time: what senders write is multiplied out for the tile, and so are the gradients of one layer's
    ports after the other. With ``columns``, at each of these positions instead of over all: edge
    by edge, then label by label.
    """
    tiles = _Tiles(model, linearised, layout)

    def scores(joined: _Joined) -> Tensor:
        return tiles.together(joined) if columns is None else tiles.at(joined, columns)

    made = _each_joined(model, layout, linearised.passes)
    if linearised.dropped:
        # GradDrop: the sign of the first pass, the summed sizes of all.
        first = scores(next(made))
        return first.sign() * sum(scores(each).abs() for each in made)
    total: Tensor | None = None
    for joined in _added(made):
        part = scores(joined)
        total = part if total is None else total + part
    assert total is not None
    return total


@dataclass(frozen=True)
class _Joined:
    """Gradients at all ports from passes that speak for the same points, summed."""

    covers: frozenset[Point] | None
    gradients: list[tuple[Ports, PortGradient]]

    @classmethod
    def of(cls, model: Model, layout: Layout, each: Pass) -> _Joined:
        run = each.gradients
        slopes = Slopes(run.values, run.grads, each.ops, each.weight)
        return cls(each.covers, gradients(model, layout, slopes))

    def plus(self, other: _Joined) -> _Joined | None:
        """With another's; None where they do not add up."""
        if self.covers != other.covers:
            return None
        sums = []
        for (group, mine), (_, theirs) in zip(self.gradients, other.gradients, strict=True):
            both = mine.plus(theirs)
            if both is None:
                return None
            sums.append((group, both))
        return replace(self, gradients=sums)

    def batches(self) -> Iterator[list[tuple[Ports, PortGradient]]]:
        """Receivers whose products are taken together: an MLP with the heads that follow it.

        One row alone would cost as much reading of the senders as all of them.
        """
        held: list[tuple[Ports, PortGradient]] = []
        for each in self.gradients:
            if held and held[-1][1].rows > 1:
                yield held
                held = []
            held.append(each)
        yield held


def _each_joined(model: Model, layout: Layout, passes: Iterator[Pass]) -> Iterator[_Joined]:
    """Every pass in turn, let go of before the next is computed."""
    while (each := next(passes, None)) is not None:
        joined = _Joined.of(model, layout, each)
        del each
        yield joined
        del joined


def _added(every: Iterable[_Joined]) -> Iterator[_Joined]:
    """Neighbours summed where they can be, so that all their products are taken once."""
    held: _Joined | None = None
    for each in every:
        both = None if held is None else held.plus(each)
        if held is not None and both is None:
            yield held
        held = each if both is None else both
        del each, both
    if held is not None:
        yield held


class _Tiles:
    """Products of what senders write with gradients at ports, a tile of the batch at a time."""

    def __init__(self, model: Model, linearised: Linearisation, layout: Layout) -> None:
        self.model, self.layout = model, layout
        self.runs = linearised.clean, linearised.corrupted
        self.like = precise(linearised.clean["input", 0])

    def together(self, joined: _Joined) -> Float[Tensor, "b edges"]:
        """Over all positions. Before the first that differs, nothing does."""
        size, length, width = self.like.shape
        row = self.layout.n_senders * width * self.like.element_size()
        differs = (self.runs[0]["input", 0] != self.runs[1]["input", 0]).any(-1).any(0)
        begin = int(differs.long().argmax()) if bool(differs.any()) else length - 1
        prompts = max(1, TILE_BYTES // (row * (length - begin)))
        columns = length - begin if prompts > 1 else max(1, TILE_BYTES // row)
        rows = []
        for start in range(0, size, prompts):
            which = slice(start, min(start + prompts, size))
            parts = [
                self.product(joined, (which, slice(at, min(at + columns, length))))
                for at in range(begin, length, columns)
            ]
            rows.append(parts[0] if len(parts) == 1 else _sum(parts))
        return torch.cat(rows)

    def at(
        self, joined: _Joined, columns: Int[Tensor, "b labels"]
    ) -> Float[Tensor, "b edges_labels"]:
        """At single positions, prompt by prompt."""
        rows = []
        for prompt, at in enumerate(columns.tolist()):
            one = slice(prompt, prompt + 1)
            tiles = [self.product(joined, (one, slice(c, c + 1))) for c in at]
            rows.append(torch.stack(tiles, dim=-1).flatten(1))
        return torch.cat(rows)

    def product(self, joined: _Joined, where: Where) -> Float[Tensor, "b edges"]:
        """Some prompts, summed over some positions."""
        clean, corrupted = (_cut(run, where) for run in self.runs)
        stack = deltas(self.model, self.layout, clean, corrupted)
        if joined.covers is not None:
            stack.mul_(_covered(self.layout, joined.covers).to(stack)[:, None, None, None])
        # For every prompt, ports by positions and features times these by senders.
        senders = stack.flatten(2).permute(1, 2, 0)
        out = stack.new_empty(stack.shape[1], self.layout.n_edges)
        for batch in joined.batches():
            counts = [gradient.rows for _, gradient in batch]
            filled = stack.new_empty(sum(counts), *stack.shape[1:])
            for (_, gradient), rows in zip(batch, filled.split(counts), strict=True):
                gradient.fill(rows, where)
            most = batch[-1][0].reads
            products = torch.bmm(filled.flatten(2).transpose(0, 1), senders[:, :, :most])
            for (group, _), part in zip(batch, products.split(counts, dim=1), strict=True):
                edges = part[:, :, : group.reads].flatten(1)
                out[:, group.start : group.start + edges.shape[1]] = edges
        return out


def edges_of_tokens(
    model: Model, linearised: Linearisation, layout: Layout, each: Pass
) -> Callable[[int, int], Float[Tensor, "1 edges"]]:
    """Edge scores of one pass, its weight left out, at one token of one prompt after another."""
    tiles = _Tiles(model, linearised, layout)
    joined = _Joined.of(model, layout, replace(each, weight=1.0))

    def at(prompt: int, column: int) -> Float[Tensor, "1 edges"]:
        return tiles.product(joined, (slice(prompt, prompt + 1), slice(column, column + 1)))

    return at


def _sum(parts: Iterable[Tensor]) -> Tensor:
    """The sum over positions, in float64."""
    first, *others = parts
    total = first.double()
    for part in others:
        total += part
    return total.to(first.dtype)


def _covered(layout: Layout, covers: frozenset[Point]) -> Bool[Tensor, " u"]:
    """Which senders some passes speak for."""
    groups = layout.senders
    return torch.tensor([point_of(g.site(0)) in covers for g in groups for _ in range(g.count)])


def _cut(values: dict[Point, Tensor], where: Where) -> dict[Point, Tensor]:
    return {point: cut(value, where) for point, value in values.items()}
