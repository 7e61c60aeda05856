"""A forward pass in which attention patterns and the scales of norms are those of another run.

With the MLPs' outputs given from outside, everything that is left is affine in them and in the
embedding: ``x / s`` with a fixed ``s``, values averaged with fixed weights, linear maps and biases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor
from typing_extensions import override

from patching.norms import Norm
from patching.ops import EVERYWHERE, NormSlope, Ops, Point, Where, cut

KINDS = ("resid_pre", "mlp_in", "attn_raw", "final_in", "v_raw", "v_cut", "pattern")
"""Kinds of points whose values are held."""


class FrozenOps(Ops):
    """Steps with the scales, patterns and cuts of a run that was recorded.

    Steps before the pattern, and those of MLPs, are the model's own: nothing is read from them.
    """

    def __init__(self, values: Mapping[Point, Tensor]) -> None:
        self.values = values

    @override
    def _norm(self, norm: Norm, x: Tensor, point: Point) -> Tensor:
        there = self.values.get(point)
        if there is None:
            return norm(x)
        # C(x) / s w + b, with s of the recorded run; the bias is what the norm makes of zero.
        made = norm.centre(x) / norm.scale(there) * norm.weight
        bias = norm.affine(norm.module)[1]
        return (made if bias is None else made + bias.detach()).to(x.dtype)

    @override
    def norm_slope(
        self, norm: Norm, x: Tensor, point: Point, where: Where = EVERYWHERE
    ) -> NormSlope:
        there = self.values.get(point)
        if there is None:
            return super().norm_slope(norm, x, point, where)
        return NormSlope(1 / norm.scale(cut(there, where)))

    @override
    def activation(self, act: Callable[[Tensor], Tensor], x: Tensor, point: Point) -> Tensor:
        there = self.values.get(point)
        if there is None or point[0] != "v_cut":
            return act(x)
        # Values that are cut off stay where they are; the others pass.
        passed = act(there) == there
        return x * passed + act(there) * ~passed

    @override
    def softmax(self, scores: Tensor, point: Point, sinks: Tensor | None = None) -> Tensor:
        there = self.values.get(("pattern", point[1]))
        if there is None:
            return super().softmax(scores, point, sinks)
        return there.to(scores.dtype).expand(scores.shape)
