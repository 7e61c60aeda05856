"""What each sender writes to the residual stream, as one difference between the two runs.

A head writes ``z_h W_O[h]``; under a post-norm (Gemma 2) its share of the normed output, with the
scale of that run. Shares add up to what the layer writes, less constant biases, which cancel
between the runs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from patching.blocks import Block
from patching.model import Model
from patching.norms import Norm, precise
from patching.ops import Point

Values = Mapping[Point, Tensor]

KINDS = ("input", "z", "attn_raw", "mlp_out")
"""The kinds of points that writes are made from (``attn_raw`` only under a post-norm)."""


def head_writes(
    block: Block, z: Float[Tensor, "b s h e"], raw: Float[Tensor, "b s d"] | None
) -> Float[Tensor, "b h s d"]:
    """What each head adds to the residual stream; ``raw`` is needed under a post-norm."""
    writes = torch.einsum("bshe,hed->bhsd", z, block.W_O.to(z.dtype))
    if block.ln1_post is None:
        return writes
    assert raw is not None
    return _through(block.ln1_post, writes, raw)


def _through(norm: Norm, share: Tensor, whole: Tensor) -> Tensor:
    scale = norm.scale(whole).unsqueeze(1)
    return (norm.centre(share) / scale * norm.weight).to(share.dtype)


def layer_deltas(
    model: Model, clean: Values, corrupted: Values, layer: int
) -> Float[Tensor, "b u s d"]:
    """Clean minus corrupted writes of one layer's heads and MLP, in order."""
    block = model.blocks[layer]
    if block.ln1_post is None:
        heads = head_writes(block, _delta(clean, corrupted, ("z", layer)), None)
    else:
        heads = head_writes(block, clean["z", layer], clean["attn_raw", layer]) - head_writes(
            block, corrupted["z", layer], corrupted["attn_raw", layer]
        )
    mlp = _delta(clean, corrupted, ("mlp_out", layer))
    return torch.cat([heads, mlp[:, None]], dim=1)


def input_delta(clean: Values, corrupted: Values) -> Float[Tensor, "b 1 s d"]:
    """Clean minus corrupted embedding."""
    return _delta(clean, corrupted, ("input", 0))[:, None]


def all_deltas(model: Model, clean: Values, corrupted: Values) -> Float[Tensor, "b u s d"]:
    """Clean minus corrupted writes of every sender, in order, in float32 or better.

    Written in place layer by layer, so that they are never held twice.
    """
    first = input_delta(clean, corrupted)
    size, _, length, width = first.shape
    units = model.anatomy.n_heads + 1
    sent = first.new_empty(size, 1 + units * model.anatomy.n_layers, length, width)
    sent[:, :1] = first
    for layer in range(model.anatomy.n_layers):
        at = 1 + units * layer
        sent[:, at : at + units] = layer_deltas(model, clean, corrupted, layer)
    return sent


def _delta(clean: Values, corrupted: Values, point: Point) -> Tensor:
    """The difference in float32 or better, so that what the runs share cancels without rounding."""
    return precise(clean[point]) - precise(corrupted[point])
