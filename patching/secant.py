"""Two-run secants: every nonlinear step's average slope between the clean and corrupted run.

A gradient uses the slope at one run. Both runs are known, so each step can use the slope that
carries the difference of its inputs exactly onto the difference of its outputs. The backward
pass then carries the metric's difference: over any complete cut of the model, the sum of
``delta . g`` is ``m(clean) - m(corrupted)``, for noising and denoising alike. Related: the rescale
rule of DeepLIFT (Shrikumar et al. 2017) and integrated gradients (Sundararajan et al. 2017).

With bars for means of the two runs and ``d`` for their difference:

* activation: ``(f(a2) - f(a)) / d``, and the mean of ``f'`` in between where ``d`` is small;
* product ``a u``: ``a`` gets ``u_bar`` and ``u`` gets ``a_bar``;
* softmax: with ``l = (A2 - A) / (log A2 - log A)``, the matrix ``diag(l) - l l^T / sum(l)``, which
  is the Jacobian when the runs coincide, is symmetric, ignores a shift of the scores, and maps
  ``s2 - s`` to ``A2 - A`` exactly, with no quadrature;
* norm ``x / sqrt(v)``: ``x`` gets the mean of the two inverse scales, and the inverse scale gets
  ``x_bar`` through its own secant in ``v``.

A single patched site moves the model only part of the way to the other run, so for its own
effect the slope should lie between the secant and the tangent at the run that is patched:
``share`` says how much of every slope is the secant. Only a share of 1 is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from patching.blocks import Block
from patching.norms import Norm, precise
from patching.ops import (
    EVERYWHERE,
    Ops,
    Point,
    Pull,
    Where,
    beside,
    cut,
    mix_pull,
    scores_pull,
    substitute,
)
from patching.rules import derivative

NEAR = 0.1
"""Inputs closer than this use a mean derivative: their quotient would lose its digits."""

CORNER = 1e-5
"""A mean derivative that misses more than this of a difference has passed over a corner."""

TINY = 1e-3
"""Log-probabilities closer than this use the series of the logarithmic mean."""


class SecantOps(Ops):
    """The plain forward pass with two-run secants as derivatives.

    ``other`` holds the other run's values at the points that :attr:`needs` names; ``share`` of
    every slope is the secant, the rest the tangent at this run.
    """

    needs = (
        *("resid_pre", "attn_raw", "mlp_in", "mlp_raw", "final_in"),
        *("mlp_pre", "mlp_up", "scores_raw", "logits_raw"),
        *("q", "k_read", "q_rot", "k_rot", "scores", "pattern", "v_read"),
    )

    def __init__(self, other: Mapping[Point, Tensor], share: float = 1.0) -> None:
        self.other = other
        self.share = share

    def _between(self, x: Tensor, x2: Tensor) -> Tensor:
        """What a factor of a product counts for: from this run's value to the mean of both."""
        return torch.lerp(precise(x), precise(x2), self.share / 2)

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
        tangent = super().norm_pull(norm, x, point, where) if self.share < 1 else None

        def pull(g: Tensor) -> Tensor:
            r, m, f = beside(g, inverse, middle, falling)
            scaled = g * weight
            scaled = scaled * r + m * (f * (scaled * m).sum(-1, keepdim=True))
            secant = norm.pull_centre(scaled).to(x.dtype)
            return secant if tangent is None else torch.lerp(tangent(g), secant, self.share)

        return pull

    @override
    def activation(self, act: Callable[[Tensor], Tensor], x: Tensor, point: Point) -> Tensor:
        value = act(x.detach())
        here, there = precise(x.detach()), precise(self.other[point])
        slope = secant_slope(act, here, there, value if here.dtype == x.dtype else act(here))
        if self.share < 1:
            slope = torch.lerp(derivative(act, here), slope, self.share)
        return substitute(value, lambda g: ((g * slope).to(x.dtype),), x)

    @override
    def gated(
        self, act: Callable[[Tensor], Tensor], gate: Tensor, up: Tensor, point: Point
    ) -> Tensor:
        active = self.activation(act, gate, point)
        a, u = active.detach(), up.detach()
        a_bar = self._between(a, act(self.other[point]))
        u_bar = self._between(u, self.other["mlp_up", point[1]])

        def pull(g: Tensor) -> tuple[Tensor, Tensor]:
            return (g * u_bar).to(g.dtype), (g * a_bar).to(g.dtype)

        return substitute(a * u, pull, active, up)

    @override
    def scores(self, q: Tensor, k: Tensor, block: Block) -> Tensor:
        q_bar = self._between(q.detach(), self.other["q_rot", block.layer])
        k_bar = self._between(k.detach(), self.other["k_rot", block.layer])
        pull = scores_pull(q_bar, k_bar, block.attention_scale)
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
            secant = mean * (g - (g * mean).sum(-1, keepdim=True) / total)
            if self.share == 1:
                return (secant.to(g.dtype),)
            tangent = value * (g - (g * value).sum(-1, keepdim=True))
            return (torch.lerp(tangent.to(secant), secant, self.share).to(g.dtype),)

        return substitute(value, pull, scores)

    @override
    def mix(self, pattern: Tensor, v: Tensor, point: Point) -> Tensor:
        a_bar = self._between(pattern.detach(), self.other["pattern", point[1]])
        v_bar = self._between(v.detach(), self.other["v_read", point[1]])
        value = super().mix(pattern.detach(), v.detach(), point)
        return substitute(value, mix_pull(a_bar, v_bar), pattern, v)


def secant_slope(act: Callable[[Tensor], Tensor], x: Tensor, x2: Tensor, value: Tensor) -> Tensor:
    """``(f(x2) - f(x)) / (x2 - x)``; two-point Gauss-Legendre of ``f'`` where they are near.

    Not across a corner, such as ReLU's at zero, where ``f'`` at two points says too little.
    """
    difference, change = x2 - x, act(x2) - value
    middle, offset = (x + x2) / 2, difference / (2 * 3**0.5)
    mean = (derivative(act, middle - offset) + derivative(act, middle + offset)) / 2
    smooth = (mean * difference - change).abs() <= CORNER * (1 + middle.abs())
    near = (difference.abs() < NEAR) & smooth
    return torch.where(near, mean, change / torch.where(near, torch.ones_like(x), difference))


def log_mean(
    scores: Float[Tensor, "b h q k"], scores2: Float[Tensor, "b h q k"]
) -> Float[Tensor, "b h q k"]:
    """Logarithmic mean of the two softmaxes, entry by entry: ``(A2 - A) / (log A2 - log A)``."""
    log1, log2 = precise(scores).log_softmax(-1), precise(scores2).log_softmax(-1)
    gap = (log2 - log1).abs()
    small = gap < TINY
    ratio = -torch.expm1(-gap) / torch.where(small, torch.ones_like(gap), gap)
    ratio = torch.where(small, 1 - gap / 2, ratio)
    return torch.maximum(log1, log2).exp() * ratio
