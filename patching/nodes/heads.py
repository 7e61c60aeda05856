"""Attention heads: head ``h`` writes ``z_h W_O[h]`` and reads at three ports, q, k and v."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from patching.blocks import Block
from patching.model import Model
from patching.nodes.gradients import Factored, PortGradient, Whole
from patching.nodes.kind import Slopes, Values, difference
from patching.norms import precise
from patching.ops import Where, cut
from patching.ports import INSIDE, reads_vjp

PORTS = (("q", "q"), ("k_read", "k"), ("v_read", "v"))
"""Points that hold what a port makes of its input, per query head, with their ports."""


class Heads:
    """The heads of a layer, in order; ports q of all heads first, then k, then v."""

    writes: tuple[str, ...] = ("z", "attn_raw")
    reads: tuple[str, ...] = tuple(kind for kind, _ in PORTS)
    values: tuple[str, ...] = ("resid_pre", *INSIDE)

    def delta(
        self, model: Model, layer: int, clean: Values, corrupted: Values
    ) -> Float[Tensor, "h b s d"]:
        """Clean minus corrupted writes; see :func:`head_writes`."""
        block = model.blocks[layer]
        if block.ln1_post is None:
            change = difference(clean, corrupted, ("z", layer))
            return torch.einsum("bshe,hed->hbsd", change, block.W_O.to(change.dtype))
        now, then = (
            head_writes(block, run["z", layer], run["attn_raw", layer])
            for run in (clean, corrupted)
        )
        return (now - then).transpose(0, 1)

    def gradient(self, model: Model, layer: int, slopes: Slopes) -> PortGradient:
        """From queries, keys and values back through their matrices, then through the norm."""
        block = model.blocks[layer]
        if all(block.linear(port) for _, port in PORTS):
            return _factored(block, slopes)
        rows = len(PORTS) * model.anatomy.n_heads
        return Whole(rows, lambda where: _gradient(block, slopes, where))


def _factored(block: Block, slopes: Slopes) -> Factored:
    """``C(w (a g_h) W_h) + c_h m`` with ``c_h = f (m . w (g_h W_h))``, which is ``g_h . (m w) W``.

    So the coefficient of a head costs a projection of ``m w``, and no vector of the stream's width.
    """
    point, grads = ("resid_pre", block.layer), []
    x, norm = slopes.values[point], block.ln1
    slope = None if norm.does_nothing else slopes.ops.norm_slope(norm, x, point)
    matrices = [block.matrix(port) for _, port in PORTS]
    for kind, _ in PORTS:
        grads.append(slopes.gradient(kind, block.layer))
    along = []
    for factor, direction in () if slope is None else slope.along:
        weighted = direction * norm.weight
        projected = [weighted @ matrix.to(weighted.dtype) for matrix in matrices]
        parts = [_against(g, p) for g, p in zip(grads, projected, strict=True)]
        coefficient = torch.cat(parts, dim=2) * factor
        along.append((coefficient.permute(2, 0, 1), direction))
    inner = grads if slope is None else [g * slope.scale[..., None] for g in grads]
    weights = [m.T.unflatten(0, (-1, block.anatomy.d_head)) for m in matrices]
    return Factored(norm, weights, inner, along)


def _against(
    g: Float[Tensor, "b s h e"], projected: Float[Tensor, "b s ue"]
) -> Float[Tensor, "b s h"]:
    """``g_h . p`` with the part ``p`` of the unit that the head shares."""
    units = projected.unflatten(-1, (-1, g.shape[-1]))
    shared = g.unflatten(2, (units.shape[2], -1))
    return (shared * units[:, :, :, None]).sum(-1).flatten(2)


def _gradient(block: Block, slopes: Slopes, where: Where) -> Float[Tensor, "b r s d"]:
    """The same for ports that are no matrices, port by port."""
    point = ("resid_pre", block.layer)
    values = {at: cut(value, where) for at, value in slopes.values.items() if at[1] == point[1]}
    grads = {kind: slopes.gradient(kind, block.layer)[where] for kind, _ in PORTS}
    at_norm = [
        reads_vjp(block, port, grads[kind], values, slopes.ops, where) for kind, port in PORTS
    ]
    vjp = slopes.ops.norm_vjp(block.ln1, values[point], point, where)
    return precise(vjp(torch.cat(at_norm, dim=1)))


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
