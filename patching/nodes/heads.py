"""Attention heads: head ``h`` writes ``z_h W_O[h]`` and reads at three ports, q, k and v."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from patching.blocks import Block
from patching.model import Model
from patching.nodes.kind import Slopes, Values, difference
from patching.ports import INSIDE, reads_vjp

PORTS = (("q", "q"), ("k_read", "k"), ("v_read", "v"))
"""Points that hold what a port makes of its input, per query head, with their ports."""


class Heads:
    """The heads of a layer, in order; ports q of all heads first, then k, then v."""

    writes: tuple[str, ...] = ("z", "attn_raw")
    reads: tuple[str, ...] = ("resid_pre", *INSIDE, *(kind for kind, _ in PORTS))

    def delta(
        self, model: Model, layer: int, clean: Values, corrupted: Values
    ) -> Float[Tensor, "b h s d"]:
        """Clean minus corrupted writes; see :func:`head_writes`."""
        block = model.blocks[layer]
        if block.ln1_post is None:
            return head_writes(block, difference(clean, corrupted, ("z", layer)), None)
        now, then = (
            head_writes(block, run["z", layer], run["attn_raw", layer])
            for run in (clean, corrupted)
        )
        return now - then

    def gradient(self, model: Model, layer: int, slopes: Slopes) -> Float[Tensor, "b r s d"]:
        """From queries, keys and values back through their matrices, then through the norm."""
        block, point = model.blocks[layer], ("resid_pre", layer)
        vjp = slopes.ops.norm_vjp(block.ln1, slopes.values[point], point, slopes.where)
        at_norm = [
            reads_vjp(
                block, port, slopes.grads[kind, layer], slopes.values, slopes.ops, slopes.where
            )
            for kind, port in PORTS
        ]
        return vjp(torch.cat(at_norm, dim=1))


def head_writes(
    block: Block, z: Float[Tensor, "b s h e"], raw: Float[Tensor, "b s d"] | None
) -> Float[Tensor, "b h s d"]:
    """What each head adds to the residual stream.

    Under a post-norm (Gemma 2) that is its share of the normed output, with the scale ``s`` that
    the whole output ``raw`` has in this run: ``w * centre(z_h W_O[h]) / s(raw)``.
    """
    writes = torch.einsum("bshe,hed->bhsd", z, block.W_O.to(z.dtype))
    norm = block.ln1_post
    if norm is None:
        return writes
    assert raw is not None
    return (norm.centre(writes) / norm.scale(raw).unsqueeze(1) * norm.weight).to(writes.dtype)
