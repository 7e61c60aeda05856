"""The ends of every circuit: the input sends its embedding, the logits read the last position."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from patching.model import Model
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
    ) -> Float[Tensor, "b 1 s d"]:
        """Clean minus corrupted embedding."""
        return difference(clean, corrupted, ("input", 0))[:, None]


class Logits:
    """The final norm and the unembedding, at the last position. They send nothing."""

    reads: tuple[str, ...] = ("final_in",)

    def gradient(
        self,
        model: Model,  # noqa: ARG002
        layer: int,
        slopes: Slopes,
    ) -> Float[Tensor, "b 1 s d"]:
        """Zero everywhere but at the last position."""
        at_end = torch.zeros_like(slopes.values["resid_pre", 0])
        if slopes.ends:
            at_end[:, -1] = slopes.grads["final_in", layer]
        return at_end[:, None]
