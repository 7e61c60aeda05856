"""The ends of every circuit: the input sends its embedding, the logits read the last position."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from patching.model import Model
from patching.nodes.gradients import AtEnd, PortGradient
from patching.nodes.kind import Slopes, Values, difference


class Input:
    """The embedding. It reads nothing."""

    writes: tuple[str, ...] = ("input",)

    def delta(
        self,
        model: Model,  # noqa: ARG002
        layer: int,  # noqa: ARG002
        clean: Values,
        corrupted: Values,
    ) -> Float[Tensor, "1 b s d"]:
        """Clean minus corrupted embedding."""
        return difference(clean, corrupted, ("input", 0))[None]


class Logits:
    """The final norm and the unembedding, at the last position. They send nothing."""

    reads: tuple[str, ...] = ("final_in",)
    values: tuple[str, ...] = ("resid_pre",)

    def gradient(
        self,
        model: Model,  # noqa: ARG002
        layer: int,
        slopes: Slopes,
    ) -> PortGradient:
        """Zero everywhere but at the last position."""
        length = slopes.values["resid_pre", 0].shape[1]
        return AtEnd(slopes.gradient("final_in", layer), length)
