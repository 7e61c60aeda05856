"""What a head's port reads: from the normed residual to its query, key or value, and back.

Where a port is a matrix, one head's part of it stands alone. Where all heads of a layer share a
norm (OLMo 2) or values are cut off, a head's query is what that head takes from the whole: an edge
into it changes what all heads would read, and only this head reads it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from patching.blocks import Block, weight_in_out
from patching.norms import precise
from patching.ops import Ops, Point, Where

INSIDE = ("q_raw", "k_raw", "q_cut", "k_cut", "v_cut")
"""Kinds of points inside ports, in the models that have them."""


def head_reads(
    block: Block, port: str, n: Float[Tensor, "h b s d"], heads: Int[Tensor, " h"]
) -> Float[Tensor, "b s h e"]:
    """What each of some query heads makes of its own normed residual."""
    if block.linear(port):
        made = torch.einsum("hbsd,hde->bshe", n, block.input_weight(port)[heads])
        bias = block.input_bias(port)
        return made if bias is None else made + bias[heads]
    read = {"q": block.queries, "k": block.keys, "v": block.values}[port]
    every = [_by_query(block, port, read(own)) for own in n]
    rows = [own[:, :, head] for own, head in zip(every, heads.tolist(), strict=True)]
    return torch.stack(rows, dim=2)


def _by_query(block: Block, port: str, x: Tensor) -> Tensor:
    return x if port == "q" else block.share(x)


def reads_vjp(
    block: Block,
    port: str,
    g: Float[Tensor, "b s h e"],
    values: Mapping[Point, Tensor],
    ops: Ops,
    where: Where,
) -> Float[Tensor, "b h s d"]:
    """The gradient at the normed residual that each query head reads, from that at its port."""
    if block.linear(port):
        return torch.einsum("bshe,hde->bhsd", g, block.input_weight(port))
    layer, units = block.layer, block.anatomy.n_heads if port == "q" else block.anatomy.n_kv_heads
    groups = block.anatomy.n_heads // units
    if block.clip is not None:
        point = (f"{port}_cut", layer)
        slope = ops.slope(block.cut_off, values[point], point, where)
        g = (precise(g) * (slope if groups == 1 else slope.repeat_interleave(groups, -2))).to(g)
    # Each head's gradient alone, at the place of its head among all, so that the norm that they
    # share sees one head at a time.
    spread = g.new_zeros(len(g), block.anatomy.n_heads, g.shape[1], units, g.shape[-1])
    for head in range(block.anatomy.n_heads):
        spread[:, head, :, head // groups] = g[:, :, head]
    whole = spread.flatten(-2)
    if port in block.whole_norms:
        point = (f"{port}_raw", layer)
        whole = ops.norm_vjp(block.whole_norms[port], values[point], point, where)(whole)
    matrix = weight_in_out({"q": block.q, "k": block.k, "v": block.v}[port])
    pulled: Tensor = whole @ matrix.T.to(whole.dtype)
    return pulled
