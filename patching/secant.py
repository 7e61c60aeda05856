"""Two-run secants: every nonlinear step's average slope between the clean and corrupted run.

A gradient uses the slope at one run. Both runs are known, so each step can use the slope that
carries the difference of its inputs exactly onto the difference of its outputs. The backward
pass then carries the metric's difference: over any complete cut of the model, the sum of
``delta . g`` is ``m(clean) - m(corrupted)``, for noising and denoising alike. Related: the rescale
rule of DeepLIFT (Shrikumar et al. 2017) and integrated gradients (Sundararajan et al. 2017).

With bars for means of the two runs and ``d`` for their difference:

* activation: ``(f(a2) - f(a)) / d``, and ``f'`` at the midpoint where ``d`` is tiny;
* product ``a u``: ``a`` gets ``u_bar`` and ``u`` gets ``a_bar``;
* softmax: with ``l = (A2 - A) / (log A2 - log A)``, the matrix ``diag(l) - l l^T / sum(l)``, which
  is the Jacobian when the runs coincide, is symmetric, ignores a shift of the scores, and maps
  ``s2 - s`` to ``A2 - A`` exactly, with no quadrature;
* norm ``x / sqrt(v)``: ``x`` gets the mean of the two inverse scales, and the inverse scale gets
  ``x_bar`` through its own secant in ``v``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from patching.blocks import Block
from patching.norms import Norm, precise
from patching.ops import EVERYWHERE, Ops, Point, Pull, Where, beside, cut, substitute
from patching.rules import derivative

TINY = 1e-3
"""Differences below this use the slope at the midpoint: the quotient would lose its digits."""


class SecantOps(Ops):
    """The plain forward pass with two-run secants as derivatives.

    ``other`` holds the other run's values at the points that :attr:`needs` names.
    """

    needs = (
        *("resid_pre", "attn_raw", "mlp_in", "mlp_raw", "final_in"),
        *("mlp_pre", "mlp_up", "scores_raw", "logits_raw"),
        *("q", "k_read", "q_rot", "k_rot", "scores", "pattern", "v_read"),
    )

    def __init__(self, other: Mapping[Point, Tensor]) -> None:
        self.other = other

    @override
    def norm(self, norm: Norm, x: Tensor, point: Point) -> Tensor:
        pull = self.norm_pull(norm, x.detach(), point)
        return substitute(norm(x.detach()), lambda g: (pull(g),), x)

    @override
    def norm_pull(self, norm: Norm, x: Tensor, point: Point, where: Where = EVERYWHERE) -> Pull:
        x2 = cut(self.other[point], where)
        one, two = norm.centre(x), norm.centre(x2)
        s1, s2 = norm.scale(x), norm.scale(x2)
        inverse, middle = (1 / s1 + 1 / s2) / 2, (one + two) / 2
        falling = -2 / (s1 * s2 * (s1 + s2)) / x.shape[-1]
        weight = norm.weight

        def pull(g: Tensor) -> Tensor:
            r, m, f = beside(g, inverse, middle, falling)
            g = g * weight
            g = g * r + m * (f * (g * m).sum(-1, keepdim=True))
            return norm.pull_centre(g).to(x.dtype)

        return pull

    @override
    def activation(self, act: Callable[[Tensor], Tensor], x: Tensor, point: Point) -> Tensor:
        value = act(x.detach())
        slope = secant_slope(act, x.detach(), self.other[point], value)
        return substitute(value, lambda g: (g * slope,), x)

    @override
    def gated(
        self, act: Callable[[Tensor], Tensor], gate: Tensor, up: Tensor, point: Point
    ) -> Tensor:
        active = self.activation(act, gate, point)
        a, u = active.detach(), up.detach()
        a_bar = (a + act(self.other[point])) / 2
        u_bar = (u + self.other["mlp_up", point[1]]) / 2
        return substitute(a * u, lambda g: (g * u_bar, g * a_bar), active, up)

    @override
    def scores(self, q: Tensor, k: Tensor, block: Block) -> Tensor:
        q_bar = (q.detach() + self.other["q_rot", block.layer]) / 2
        k_bar = (k.detach() + self.other["k_rot", block.layer]) / 2

        def pull(g: Tensor) -> tuple[Tensor, Tensor]:
            return (
                torch.einsum("bhqk,bkhe->bqhe", g, k_bar) * block.attention_scale,
                torch.einsum("bhqk,bqhe->bkhe", g, q_bar) * block.attention_scale,
            )

        return substitute(super().scores(q.detach(), k.detach(), block), pull, q, k)

    @override
    def softcap(self, x: Tensor, cap: float, point: Point) -> Tensor:
        return self.activation(lambda t: torch.tanh(t / cap) * cap, x, point)

    @override
    def softmax(self, scores: Tensor, point: Point) -> Tensor:
        value = super().softmax(scores.detach(), point)
        mean = log_mean(scores.detach(), self.other[point])
        total = mean.sum(-1, keepdim=True)

        def pull(g: Tensor) -> tuple[Tensor]:
            return (mean * (g - (g * mean).sum(-1, keepdim=True) / total),)

        return substitute(value, pull, scores)

    @override
    def mix(self, pattern: Tensor, v: Tensor, point: Point) -> Tensor:
        a_bar = (pattern.detach() + self.other["pattern", point[1]]) / 2
        v_bar = (v.detach() + self.other["v_read", point[1]]) / 2

        def pull(g: Tensor) -> tuple[Tensor, Tensor]:
            return (
                torch.einsum("bqhe,bkhe->bhqk", g, v_bar),
                torch.einsum("bhqk,bqhe->bkhe", a_bar, g),
            )

        return substitute(super().mix(pattern.detach(), v.detach(), point), pull, pattern, v)


def secant_slope(act: Callable[[Tensor], Tensor], x: Tensor, x2: Tensor, value: Tensor) -> Tensor:
    """``(f(x2) - f(x)) / (x2 - x)``, and ``f'`` at the midpoint where the difference is tiny."""
    difference = x2 - x
    small = difference.abs() < TINY
    quotient = (act(x2) - value) / torch.where(small, torch.ones_like(x), difference)
    return torch.where(small, derivative(act, (x + x2) / 2), quotient)


def log_mean(
    scores: Float[Tensor, "b h q k"], scores2: Float[Tensor, "b h q k"]
) -> Float[Tensor, "b h q k"]:
    """Logarithmic mean of the two softmaxes, entry by entry: ``(A2 - A) / (log A2 - log A)``."""
    log1, log2 = precise(scores).log_softmax(-1), precise(scores2).log_softmax(-1)
    gap = (log2 - log1).abs()
    small = gap < TINY
    ratio = -torch.expm1(-gap) / torch.where(small, torch.ones_like(gap), gap)
    ratio = torch.where(small, 1 - gap / 2, ratio)
    return (torch.maximum(log1, log2).exp() * ratio).to(scores.dtype)
