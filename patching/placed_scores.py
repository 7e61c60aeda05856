"""Scores of edges at places and of crossing edges between places, from one linearisation.

An edge at a place is what the port reads there from the sender: the sum of ``delta . g`` over the
tokens of the place. A crossing edge between two places is the sum over their token pairs of what
the head carries (:mod:`patching.attention_edges`). Estimates of all places add up to those of the
plain edges, and those of all pairs of places to the head's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from patching import attention_edges
from patching.activation import EDGE_KINDS, ExactSweep
from patching.gradient_scores import combine, edge_kinds, edges_of_tokens
from patching.linearised import Kinds, Linearisation, Pass
from patching.model import Model
from patching.nodes.layout import Layout
from patching.norms import precise
from patching.ops import Point

EXACT_KINDS = (*EDGE_KINDS, *(kind for kind in attention_edges.KINDS.read if kind != "z"))
"""Kinds of points of the other run that exact effects need."""


def kinds(layout: Layout) -> Kinds:
    """Kinds of points that both kinds of edges need."""
    both = edge_kinds(layout).also(*attention_edges.KINDS.read)
    return replace(both, graded=(*both.graded, *attention_edges.KINDS.scored))


def estimates(
    model: Model,
    linearised: Linearisation,
    layout: Layout,
    at: Int[Tensor, "b s"],
    count: int,
) -> Float[Tensor, "b names"]:
    """Edges at ``count`` places, edge by edge; then crossing edges by layer, head, query, source.

    ``at`` says which place each token is in, ``count`` for none.
    """
    # Nothing differs before the first token in which the two runs do.
    differs = (linearised.clean["input", 0] != linearised.corrupted["input", 0]).any(-1)
    first = int(differs.any(0).long().argmax())

    def one_pass(each: Pass) -> Tensor:
        rows, edges_at = [], edges_of_tokens(model, linearised, layout, each)
        for prompt in range(len(at)):
            total = None
            for token in range(first, at.shape[1]):
                tile = edges_at(prompt, token)
                if total is None:
                    total = tile.new_zeros(count + 1, tile.shape[1])
                total[at[prompt, token]] += tile[0]
            assert total is not None
            rows.append(total[:count].T.flatten())
        return torch.cat([torch.stack(rows), _crossing(linearised, each, at, count)], dim=1)

    return combine(linearised, one_pass)


def _crossing(
    linearised: Linearisation, each: Pass, at: Int[Tensor, "b s"], count: int
) -> Float[Tensor, "b names"]:
    parts = []
    for layer in sorted(layer for kind, layer in linearised.clean if kind == "pattern"):
        gradient = precise(each.gradients.grads["z", layer])
        both = [
            precise(run["pattern", layer])
            * torch.einsum("bqhe,bkhe->bhqk", gradient, precise(run["v_read", layer]))
            for run in (linearised.clean, linearised.corrupted)
        ]
        part = _by_place(both[0] - both[1], at, count)
        parts.append(part if each.speaks_for(("z", layer)) else torch.zeros_like(part))
    return torch.cat(parts, dim=1)


def _by_place(
    values: Float[Tensor, "b h q k"], at: Int[Tensor, "b s"], count: int
) -> Float[Tensor, "b names"]:
    hot = torch.nn.functional.one_hot(at, count + 1)[..., :count].to(values)
    return torch.einsum("bhqk,bqp,bkr->bhpr", values, hot, hot).flatten(1)


@torch.no_grad()
def exact(sweep: ExactSweep, at: Int[Tensor, "b s"], count: int) -> Float[Tensor, "b names"]:
    """The exact effects of the same edges."""
    tail = at[:, sweep.kept.first :]
    edges = torch.stack([sweep.edges(tail == place) for place in range(count)], dim=-1)
    return torch.cat([edges.flatten(1), _exact_crossing(sweep, at, count)], dim=1)


def _exact_crossing(
    sweep: ExactSweep, at: Int[Tensor, "b s"], count: int
) -> Float[Tensor, "b names"]:
    effects, hot = [], torch.nn.functional.one_hot(at, count + 1)[..., :count].bool()
    for layer in range(sweep.setting.model.anatomy.n_layers):
        base = sweep.kept.values["z", layer]
        for unit in range(base.shape[2]):
            here, there = (
                _carried(run, layer, unit, hot) for run in (sweep.kept.values, sweep.other)
            )
            change = (there - here).flatten(0, 1)
            for some in change.split(sweep.rows):
                rows = base.expand(len(some), *base.shape).clone()
                rows[:, :, :, unit] += some
                patched = rows[:, :, sweep.kept.first :].contiguous()
                effects.append(sweep.effect(sweep.kept.go_on("z", layer, patched)))
    return torch.cat(effects).T


def _carried(
    run: Mapping[Point, Tensor], layer: int, unit: int, hot: Tensor
) -> Float[Tensor, "query source b q e"]:
    """What one head carries between every two places, at every token."""
    pattern, v = run["pattern", layer][:, unit], run["v_read", layer][:, :, unit]
    weights = hot.to(pattern)
    return torch.einsum("bqk,bqp,bkr,bke->prbqe", pattern, weights, weights, v)
