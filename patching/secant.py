"""Two-run secants: every nonlinear step's average slope between the clean and corrupted run.

A gradient uses the slope at one run. Both runs are known, so each step can use the slope that
carries the difference of its inputs exactly onto the difference of its outputs. The backward
pass then carries the metric's difference: over any complete cut of the model, the sum of
``delta . g`` is ``m(clean) - m(corrupted)``, the same for noising and denoising. Related: the
rescale rule of DeepLIFT (Shrikumar et al. 2017), integrated gradients (Sundararajan et al. 2017).

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
from patching.experts import Experts
from patching.norms import Norm, precise
from patching.ops import (
    EVERYWHERE,
    NormSlope,
    Ops,
    Point,
    RoutedTokens,
    Where,
    cut,
    derivative,
    mix_vjp,
    scores_vjp,
    substitute,
    with_sinks,
)

NEAR = 0.1
"""Inputs closer than this use a mean derivative: their quotient would lose its digits."""

CORNER = 1e-5
"""A mean derivative that misses more than this of a difference has crossed a corner."""

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
        *("q_raw", "k_raw", "q_cut", "k_cut", "v_cut", "q_turned", "k_turned"),
    )

    def __init__(self, other: Mapping[Point, Tensor], share: float = 1.0) -> None:
        self.other = other
        self.share = share

    def _between(self, x: Tensor, x2: Tensor) -> Tensor:
        """What a factor of a product counts for: from this run's value to the mean of both."""
        return torch.lerp(precise(x), precise(x2), self.share / 2)

    @override
    def _norm(self, norm: Norm, x: Tensor, point: Point) -> Tensor:
        vjp = self.norm_vjp(norm, x.detach(), point)
        return substitute(norm(x.detach()), lambda g: (vjp(g),), x)

    @override
    def norm_slope(
        self, norm: Norm, x: Tensor, point: Point, where: Where = EVERYWHERE
    ) -> NormSlope:
        # x / s(x): x gets the mean of 1/s and 1/s2. 1/s = v^-1/2 gets m, the mean of both x, by
        # its secant in v, (1/s2 - 1/s) / (v2 - v) = -1 / (s s2 (s + s2)), with dv = 2 m . dx / d.
        x2, share = cut(self.other[point], where), self.share
        s1, s2 = norm.scale(x), norm.scale(x2)
        middle = (norm.centre(x) + norm.centre(x2)) / 2
        falling = -2 / (s1 * s2 * (s1 + s2)) / x.shape[-1]
        secant = NormSlope((1 / s1 + 1 / s2) / 2, ((falling, middle),))
        if share == 1:
            return secant
        tangent = super().norm_slope(norm, x, point, where)
        parts = ((share, secant), (1 - share, tangent))
        along = tuple((w * f, m) for w, part in parts for f, m in part.along)
        return NormSlope(torch.lerp(tangent.scale, secant.scale, share), along)

    @override
    def activation(self, act: Callable[[Tensor], Tensor], x: Tensor, point: Point) -> Tensor:
        value = act(x.detach())
        # Nothing but the slope is held for the backward pass.
        slope, dtype = self._slope(act, x.detach(), self.other[point], value), x.dtype
        return substitute(value, lambda g: ((g * slope).to(dtype),), x)

    @override
    def slope(
        self, act: Callable[[Tensor], Tensor], x: Tensor, point: Point, where: Where = EVERYWHERE
    ) -> Tensor:
        return self._slope(act, x, cut(self.other[point], where), act(x))

    def _slope(
        self, act: Callable[[Tensor], Tensor], x: Tensor, x2: Tensor, value: Tensor
    ) -> Tensor:
        here, there = precise(x), precise(x2)
        slope = secant_slope(act, here, there, value if here.dtype == x.dtype else act(here))
        return slope if self.share == 1 else torch.lerp(derivative(act, here), slope, self.share)

    @override
    def shift(self, act: Callable[[Tensor], Tensor], up: Tensor, point: Point) -> Tensor:
        return self.activation(act, up, ("mlp_shift", point[1]))

    @override
    def gated(
        self, act: Callable[[Tensor], Tensor], gate: Tensor, up: Tensor, point: Point
    ) -> Tensor:
        active = self.activation(act, gate, point)
        a, u = active.detach(), up.detach()
        a_bar = self._between(a, act(self.other[point]))
        u_bar = self._between(u, self.other["mlp_up", point[1]])

        def vjp(g: Tensor) -> tuple[Tensor, Tensor]:
            return (g * u_bar).to(g.dtype), (g * a_bar).to(g.dtype)

        return substitute(a * u, vjp, active, up)

    @override
    def scores(self, q: Tensor, k: Tensor, block: Block) -> Tensor:
        q_bar = self._between(q.detach(), self.other["q_rot", block.layer])
        k_bar = self._between(k.detach(), self.other["k_rot", block.layer])
        vjp = scores_vjp(q_bar, k_bar, block.attention_scale)
        return substitute(super().scores(q.detach(), k.detach(), block), vjp, q, k)

    @override
    def softcap(self, x: Tensor, cap: float, point: Point) -> Tensor:
        return self.activation(lambda t: torch.tanh(t / cap) * cap, x, point)

    @override
    def softmax(self, scores: Tensor, point: Point, sinks: Tensor | None = None) -> Tensor:
        value, keys = super().softmax(scores.detach(), point, sinks), scores.shape[-1]
        both = (with_sinks(precise(s), sinks) for s in (scores.detach(), self.other[point]))
        mean = log_mean(*both)
        total, mean = mean.sum(-1, keepdim=True), mean[..., :keys]
        share, here = self.share, None if self.share == 1 else value

        def vjp(g: Tensor) -> tuple[Tensor]:
            # diag(l) - l l^T / sum(l), applied to g.
            secant = mean * (g - (g * mean).sum(-1, keepdim=True) / total)
            if here is None:
                return (secant.to(g.dtype),)
            tangent = here * (g - (g * here).sum(-1, keepdim=True))
            return (torch.lerp(tangent.to(secant), secant, share).to(g.dtype),)

        return substitute(value, vjp, scores)

    @override
    def mix(self, pattern: Tensor, v: Tensor, point: Point) -> Tensor:
        a_bar = self._between(pattern.detach(), self.other["pattern", point[1]])
        v_bar = self._between(v.detach(), self.other["v_read", point[1]])
        value = super().mix(pattern.detach(), v.detach(), point)
        return substitute(value, mix_vjp(a_bar, v_bar), pattern, v)

    @override
    def route(self, experts: Experts, n: Tensor, block: Block) -> RoutedTokens:
        """As in the base class; the weights' slope is a softmax's secant where both runs choose
        the same, else :func:`line_vjp`.
        """
        n2 = block.ln2(self.other["mlp_in", block.layer]).reshape(-1, n.shape[-1])
        logits, logits2 = experts.logits(n), experts.logits(n2)
        chosen, chosen2 = experts.chosen(logits), experts.chosen(logits2)
        there = RoutedTokens(experts, block.layer, n2, experts.weights(logits2, chosen2))
        weights = self._routed(experts, logits, logits2, chosen, chosen2)
        return RoutedTokens(experts, block.layer, n, weights, there)

    @override
    def expert(self, routed: RoutedTokens, index: int, rows: Tensor, weights: Tensor) -> Tensor:
        """The weight gets the mean of both runs' answers, the answer that of both runs' weights.

        An expert that a run does not choose has the weight zero there, and answers all the same.
        """
        there = routed.other
        assert there is not None
        n, n2 = routed.n[rows], there.n[rows]
        answer, other = self._both(routed.experts, index, n, n2, routed.layer)
        pair = weights[rows, index, None], there.weights[rows, index, None]
        return self._product(*pair, answer, other)

    @override
    def shared_expert(self, routed: RoutedTokens) -> Tensor:
        experts, layer, there = routed.experts, routed.layer, routed.other
        assert there is not None
        answer, other = self._both(experts, -1, routed.n, there.n, layer)
        logit, logit2 = experts.shared_weight(routed.n), experts.shared_weight(there.n)
        if logit is None or logit2 is None:
            return answer
        inner = SecantOps({("shared", layer): logit2}, self.share)
        weight = inner.activation(torch.sigmoid, logit, ("shared", layer))
        return self._product(weight, logit2.sigmoid(), answer, other)

    def _both(
        self, experts: Experts, index: int, n: Tensor, n2: Tensor, layer: int
    ) -> tuple[Tensor, Tensor]:
        """An expert's answer in this run, with secants, and in the other."""
        expert = experts.shared if index < 0 else experts.each[index]
        assert expert is not None
        gate, up = expert.reads(n2)
        shifted = up if experts.shift is None else experts.shift(up)
        other = {("mlp_pre", layer): gate, ("mlp_up", layer): shifted, ("mlp_shift", layer): up}
        inner = SecantOps(other, self.share)
        return inner._answer(experts, index, n, ("mlp_pre", layer)), experts.answer(expert, n2)

    def _product(self, w: Tensor, w2: Tensor, y: Tensor, y2: Tensor) -> Tensor:
        w_bar, y_bar = self._between(w.detach(), w2), self._between(y.detach(), y2)

        def vjp(g: Tensor) -> tuple[Tensor, Tensor]:
            return (g * y_bar).sum(-1, keepdim=True).to(g.dtype), (g * w_bar).to(g.dtype)

        return substitute(w.detach() * y.detach(), vjp, w, y)

    def _routed(
        self, experts: Experts, logits: Tensor, logits2: Tensor, chosen: Tensor, chosen2: Tensor
    ) -> Tensor:
        """The weights, with their secant in the router's logits."""
        l1, l2 = logits.detach(), logits2
        w, w2 = experts.weights(l1, chosen), experts.weights(l2, chosen2)
        alike = (chosen == chosen2).all(-1, keepdim=True)
        mean = log_mean(experts.masked(l1, chosen), experts.masked(l2, chosen2))
        tangent_of = experts.masked(l1, chosen).softmax(-1)

        def vjp(g: Tensor) -> tuple[Tensor]:
            seen = torch.where(chosen, precise(g), torch.zeros_like(precise(g)))
            same = softmax_vjp(seen, mean)
            secant = torch.where(alike, same, line_vjp(precise(g), l2 - l1, w2 - w))
            if self.share < 1:
                secant = torch.lerp(softmax_vjp(seen, tangent_of), secant, self.share)
            return (secant.to(g.dtype),)

        return substitute(w, vjp, logits)


def softmax_vjp(g: Tensor, mean: Tensor) -> Tensor:
    """``(diag(l) - l l^T / sum(l)) g``: the derivative of a softmax ``l``, or a secant of two."""
    return mean * (g - (g * mean).sum(-1, keepdim=True) / mean.sum(-1, keepdim=True))


def line_vjp(g: Tensor, change: Tensor, answer: Tensor) -> Tensor:
    """The gradient of a step that is known at two points only, along the line between them.

    ``J = dw dl^T / |dl|^2`` is the smallest matrix that maps the change of the inputs ``dl`` onto
    that of the outputs ``dw``. Where two runs choose other experts no slope leads from one choice
    to the other, and this carries the whole difference all the same.
    """
    change, answer = precise(change), precise(answer)
    size = change.square().sum(-1, keepdim=True)
    along = (g * answer).sum(-1, keepdim=True) / torch.where(size == 0, torch.ones_like(size), size)
    return change * along


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
