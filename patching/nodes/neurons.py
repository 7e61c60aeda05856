"""Single neurons instead of their MLP: neuron ``n`` writes ``post_n W_out[n]``.

A neuron reads the stream at one port. There it makes ``pre_n = W_in[n] . norm(x)``, in a gated MLP
also ``up_n = W_up[n] . norm(x)``, and ``post_n = f(pre_n)`` or ``f(pre_n) up_n``. What it writes is
factored: an amount per position times one direction.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from patching.blocks import Block, weight_in_out
from patching.model import Model
from patching.nodes.gradients import PortGradient, Whole
from patching.nodes.kind import Slopes, Values
from patching.norms import precise
from patching.ops import Where, cut


class Neurons:
    """The neurons of a layer's MLP, in order."""

    writes: tuple[str, ...] = ("mlp_post", "mlp_raw")
    reads: tuple[str, ...] = ("mlp_pre", "mlp_up")
    values: tuple[str, ...] = ("mlp_in",)

    def delta(
        self, model: Model, layer: int, clean: Values, corrupted: Values
    ) -> Float[Tensor, "n b s d"]:
        """Clean minus corrupted amounts, each times its neuron's direction."""
        block = model.blocks[layer]
        now, then = (
            amounts(block, precise(run["mlp_post", layer]), run.get(("mlp_raw", layer)))
            for run in (clean, corrupted)
        )
        return (now - then).movedim(-1, 0)[..., None] * directions(block, now)[:, None, None]

    def gradient(self, model: Model, layer: int, slopes: Slopes) -> PortGradient:
        """Neuron by neuron, made a tile at a time."""
        block = model.blocks[layer]
        return Whole(model.anatomy.d_mlp, lambda where: _gradient(block, slopes, where))


def _gradient(block: Block, slopes: Slopes, where: Where) -> Float[Tensor, "b n s d"]:
    """``norm_vjp(g_pre[n] W_in[n] + g_up[n] W_up[n])``, neuron by neuron."""
    point = ("mlp_in", block.layer)
    at_norm: Tensor | float = 0.0
    for kind, module in _inputs(block):
        grad = slopes.gradient(kind, block.layer)[where]
        rows = weight_in_out(module).T.to(grad.dtype)
        at_norm = at_norm + grad.transpose(1, 2)[..., None] * rows[:, None]
    assert isinstance(at_norm, Tensor)
    vjp = slopes.ops.norm_vjp(block.ln2, cut(slopes.values[point], where), point, where)
    return precise(vjp(at_norm))


def directions(block: Block, like: Tensor) -> Float[Tensor, "n d"]:
    """What a unit amount of each neuron writes: its output weights, through a post-norm's weight.

    Under a post-norm that is ``w * centre(W_out[n])``; its scale is part of the amount.
    """
    weight, norm = block.W_out.to(like.dtype), block.ln2_post
    return weight if norm is None else (norm.centre(weight) * norm.weight).to(like.dtype)


def amounts(
    block: Block, post: Float[Tensor, "b s n"], raw: Float[Tensor, "b s d"] | None
) -> Float[Tensor, "b s n"]:
    """How much each neuron writes of its direction; ``raw`` is what the whole MLP makes.

    Under a post-norm that is ``post_n / s(raw)``, with the scale of that run.
    """
    norm = block.ln2_post
    if norm is None:
        return post
    assert raw is not None
    return (post / norm.scale(raw)).to(post.dtype)


def answers(
    block: Block, x: Float[Tensor, "n b s d"], which: Int[Tensor, " n"]
) -> Float[Tensor, "b s n"]:
    """What some neurons make of the stream that each of them reads."""
    assert block.act is not None
    normed = block.ln2(x)
    made = [
        (normed * rows[which, None, None]).sum(-1).movedim(0, -1)
        + (0 if bias is None else bias.detach()[which])
        for rows, bias in (
            (weight_in_out(module).T, getattr(module, "bias", None)) for _, module in _inputs(block)
        )
    ]
    post = block.act(made[0])
    return post if len(made) == 1 else post * made[1]


def _inputs(block: Block) -> list[tuple[str, nn.Module]]:
    """The points before a neuron's nonlinear step, with the matrices that make them."""
    assert block.up is not None
    if block.gate is None:
        return [("mlp_pre", block.up)]
    return [("mlp_pre", block.gate), ("mlp_up", block.up)]
