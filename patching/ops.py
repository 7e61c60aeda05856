"""The nonlinear steps of a forward pass, each replaceable in the backward pass only.

A forward pass asks an :class:`Ops` for every step that is not linear: norms, activation
functions, products, the softmax. The plain one leaves differentiation to autograd. Relevance rules
(:mod:`patching.rules`) and two-run secants (:mod:`patching.secant`) are other ``Ops``: they return
the very same value and hand autograd another derivative through :func:`substitute`, so the forward
pass stays bit-identical and no state of the model is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.blocks import Block
from patching.experts import Experts
from patching.norms import Norm, precise

Vjp = Callable[[Tensor], Tensor]
Point = tuple[str, int]
Where = tuple[slice, slice]
"""Some prompts and some positions of a batch."""

EVERYWHERE: Where = (slice(None), slice(None))


class _Substitute(torch.autograd.Function):
    """Forward: the given value. Backward: the given vjp, one gradient per input."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, vjp: Callable[..., Any], *inputs: Tensor) -> Tensor:
        ctx.vjp = vjp
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return (None, None, *ctx.vjp(grads[0]))


def substitute(
    value: Tensor, vjp: Callable[[Tensor], tuple[Tensor | None, ...]], *inputs: Tensor
) -> Tensor:
    """``value`` going forward; going backward, ``vjp(g)`` gives the gradient of each input."""
    if not torch.is_grad_enabled():
        return value
    out: Tensor = _Substitute.apply(value.detach(), vjp, *inputs)
    return out


def beside(g: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """``values`` of shape ``[b, s, d]`` made to broadcast with a ``g`` of ``[b, ports, s, d]``."""
    return tuple(v.unsqueeze(1) if g.ndim > v.ndim else v for v in values)


def cut(value: Tensor, where: Where) -> Tensor:
    """Some prompts and positions of a value; one without positions is cut by prompts only."""
    return value[where] if value.ndim > 2 else value[where[0]]


def scores_vjp(q: Tensor, k: Tensor, scale: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Gradients of queries and keys from one of the scores, for the factors ``q`` and ``k``.

    The factors may be more precise than the gradients.
    """

    def vjp(g: Tensor) -> tuple[Tensor, Tensor]:
        wide = g.to(q.dtype)
        return (
            (torch.einsum("bhqk,bkhe->bqhe", wide, k) * scale).to(g.dtype),
            (torch.einsum("bhqk,bqhe->bkhe", wide, q) * scale).to(g.dtype),
        )

    return vjp


def mix_vjp(
    pattern: Tensor, v: Tensor, scale: float = 1.0
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Gradients of pattern and values from one of ``z``, for the factors ``pattern`` and ``v``.

    The factors may be more precise than the gradients.
    """

    def vjp(g: Tensor) -> tuple[Tensor, Tensor]:
        wide = g.to(v.dtype)
        return (
            (torch.einsum("bqhe,bkhe->bhqk", wide, v) * scale).to(g.dtype),
            (torch.einsum("bhqk,bqhe->bkhe", pattern, wide) * scale).to(g.dtype),
        )

    return vjp


@dataclass(frozen=True)
class RoutedTokens:
    """The experts of a layer, what they read, and how the router weights them in one run.

    Tokens of all prompts stand in one row. ``other`` is the same of the other run, for ops that use
    it.
    """

    experts: Experts
    layer: int
    n: Float[Tensor, "t d"]
    weights: Float[Tensor, "t e"]
    other: RoutedTokens | None = None

    def answering(self, weights: Float[Tensor, "t e"], asked: bool) -> Bool[Tensor, "t e"]:
        """Which experts answer: those that have a weight, here or in the other run.

        With ``asked`` someone asks for the gradient at the weights. That of an expert without a
        weight is not zero: it is what the expert would answer. Where the other run is not known,
        every expert has to.
        """
        here = weights != 0
        if self.other is not None:
            return here | (self.other.weights != 0)
        return torch.ones_like(here) if asked else here


@dataclass(frozen=True)
class NormSlope:
    """The derivative of a norm in factors, a multiple of the identity and some of rank one.

    A gradient ``h``, which has the norm's weight already, becomes ``a C(h) + sum of m f (m . h)``,
    with ``a`` the ``scale``, ``(f, m)`` each of those ``along`` a direction, and ``C`` the norm's
    centring; every ``m`` is centred.
    """

    scale: Float[Tensor, "*b 1"]
    along: tuple[tuple[Float[Tensor, "*b 1"], Float[Tensor, "*b d"]], ...] = ()


class Ops:
    """The plain steps. ``point`` names the step's place in the model, as taps do."""

    needs: tuple[str, ...] = ()
    """Kinds of points whose values in the other run these ops use."""

    def norm(self, norm: Norm, x: Float[Tensor, "*b d"], point: Point) -> Float[Tensor, "*b d"]:
        """A normalisation layer; ``x`` itself where a block has none."""
        return x if norm.does_nothing else self._norm(norm, x, point)

    def norm_vjp(
        self, norm: Norm, x: Float[Tensor, "*b d"], point: Point, where: Where = EVERYWHERE
    ) -> Vjp:
        """The map from a gradient at the norm's output to one at ``x``.

        Gradients have the shape of ``x``, or ``[b, ports, s, d]`` for an ``x`` of ``[b, s, d]``.
        ``where`` says which part of the batch ``x`` is.
        """
        if norm.does_nothing:
            return lambda g: g
        slope, weight, dtype = self.norm_slope(norm, x, point, where), norm.weight, x.dtype

        def vjp(g: Tensor) -> Tensor:
            # C(w g) a + sum of m f (m . w g), with C the centring of the norm, if any.
            (scale,) = beside(g, slope.scale)
            g = g * weight
            out = norm.centre_vjp(g) * scale
            for factor, along in slope.along:
                f, m = beside(g, factor, along)
                out = out + m * (f * (g * m).sum(-1, keepdim=True))
            return out.to(dtype)

        return vjp

    def norm_slope(
        self, norm: Norm, x: Float[Tensor, "*b d"], point: Point, where: Where = EVERYWHERE
    ) -> NormSlope:
        """The derivative of a norm at ``x``, without its weight, in factors."""
        # y = u(x) w + b with u = C(x) / s:  dL/dx = C(w g) / s - u (u . w g) / (d s).
        scale = norm.scale(x)
        return NormSlope(1 / scale, ((-1 / (scale * x.shape[-1]), norm.centre(x) / scale),))

    def _norm(self, norm: Norm, x: Tensor, point: Point) -> Tensor:
        return norm(x)

    def activation(self, act: Callable[[Tensor], Tensor], x: Tensor, point: Point) -> Tensor:
        """An elementwise activation function."""
        return act(x)

    def slope(
        self, act: Callable[[Tensor], Tensor], x: Tensor, point: Point, where: Where = EVERYWHERE
    ) -> Tensor:
        """The derivative by which :meth:`activation` is differentiated, elementwise."""
        return derivative(act, x)

    def gated(
        self, act: Callable[[Tensor], Tensor], gate: Tensor, up: Tensor, point: Point
    ) -> Tensor:
        """The product ``act(gate) * up`` of a gated MLP."""
        return act(gate) * up

    def scores(
        self, q: Float[Tensor, "b q h e"], k: Float[Tensor, "b k h e"], block: Block
    ) -> Float[Tensor, "b h q k"]:
        """Scaled dot products, before soft-cap and mask."""
        return torch.einsum("bqhe,bkhe->bhqk", q, k) * block.attention_scale

    def softcap(self, x: Tensor, cap: float, point: Point) -> Tensor:
        """``cap * tanh(x / cap)``."""
        return torch.tanh(x / cap) * cap

    def softmax(
        self, scores: Float[Tensor, "b h q k"], point: Point, sinks: Tensor | None = None
    ) -> Float[Tensor, "b h q k"]:
        """Attention pattern from masked scores, computed in float32 or better.

        ``sinks [h]`` are scores of a key that is not there: what goes to it is lost.
        """
        shares = with_sinks(precise(scores), sinks).softmax(-1).to(scores.dtype)
        return shares if sinks is None else shares[..., :-1]

    def mix(
        self, pattern: Float[Tensor, "b h q k"], v: Float[Tensor, "b k h e"], point: Point
    ) -> Float[Tensor, "b q h e"]:
        """Values averaged by the pattern."""
        return torch.einsum("bhqk,bkhe->bqhe", pattern, v)

    def route(self, experts: Experts, n: Float[Tensor, "t d"], block: Block) -> RoutedTokens:
        """How a mixture of experts weights them, from the normed residual of every token.

        The router's choice stays as it is in this run.
        """
        return RoutedTokens(experts, block.layer, n, self._weights(experts, experts.logits(n)))

    def _weights(self, experts: Experts, logits: Float[Tensor, "t e"]) -> Float[Tensor, "t e"]:
        return experts.weights(logits, experts.chosen(logits))

    def expert(
        self,
        routed: RoutedTokens,
        index: int,
        rows: Int[Tensor, " r"],
        weights: Float[Tensor, "t e"],
    ) -> Float[Tensor, "r d"]:
        """What an expert answers some tokens, times its weight there."""
        answer = self._answer(routed.experts, index, routed.n[rows], ("mlp_pre", routed.layer))
        return answer * weights[rows, index, None]

    def shared_expert(self, routed: RoutedTokens) -> Float[Tensor, "t d"]:
        """What the expert that answers every token writes."""
        experts, n = routed.experts, routed.n
        answer = self._answer(experts, -1, n, ("mlp_pre", routed.layer))
        logit = experts.shared_weight(n)
        return answer if logit is None else answer * self.sigmoid(logit)

    def _answer(self, experts: Experts, index: int, n: Tensor, point: Point) -> Tensor:
        expert = experts.shared if index < 0 else experts.each[index]
        assert expert is not None
        gate, up = expert.reads(n)
        up = up if experts.shift is None else self.shift(experts.shift, up, point)
        return expert.writes(self.gated(experts.act, gate, up, point))

    def shift(self, act: Callable[[Tensor], Tensor], up: Tensor, point: Point) -> Tensor:
        """An elementwise step on the factor beside a gate."""
        return act(up)

    def sigmoid(self, logit: Tensor) -> Tensor:
        """The weight of a shared expert."""
        return logit.sigmoid()


def with_sinks(scores: Float[Tensor, "b h q k"], sinks: Tensor | None) -> Float[Tensor, "b h q j"]:
    """The scores, and behind them one more column where attention has sinks."""
    if sinks is None:
        return scores
    column = sinks.detach().to(scores)[:, None, None].expand(*scores.shape[:-1], 1)
    return torch.cat([scores, column], dim=-1)


def derivative(act: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``f'(x)`` elementwise."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(act(x).sum(), x)
    return slope


PLAIN = Ops()
