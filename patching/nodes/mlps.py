"""Whole MLPs, mixtures of experts among them: one sender and one port in a layer."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from patching.model import Model
from patching.nodes.gradients import PortGradient, Stream
from patching.nodes.kind import Slopes, Values, difference


class Mlps:
    """The MLP of a layer."""

    writes: tuple[str, ...] = ("mlp_out",)
    reads: tuple[str, ...] = ("mlp_in",)
    values: tuple[str, ...] = ()

    def delta(
        self,
        model: Model,  # noqa: ARG002
        layer: int,
        clean: Values,
        corrupted: Values,
    ) -> Float[Tensor, "1 b s d"]:
        """Clean minus corrupted output, behind a post-norm where there is one."""
        return difference(clean, corrupted, ("mlp_out", layer))[None]

    def gradient(
        self,
        model: Model,  # noqa: ARG002
        layer: int,
        slopes: Slopes,
    ) -> PortGradient:
        """The gradient at the MLP's own view of the stream, as the backward pass has it."""
        return Stream(slopes.gradient("mlp_in", layer))
