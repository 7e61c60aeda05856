"""The ends of every circuit: the input sends its embedding, the logits read the last position."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from patching.model import Model
from patching.nodes.kind import Slopes, Values, difference


class Input:
    """The embedding. It reads nothing."""

    point = "input"
    writes: tuple[str, ...] = ("input",)
    reads: tuple[str, ...] = ()

    def delta(
        self,
        model: Model,  # noqa: ARG002
        layer: int,  # noqa: ARG002
        clean: Values,
        corrupted: Values,
    ) -> Float[Tensor, "b 1 s d"]:
        """Clean minus corrupted embedding."""
        return difference(clean, corrupted, ("input", 0))[:, None]

    def gradient(self, model: Model, layer: int, slopes: Slopes) -> Tensor:
        """There is none: nothing stands before the input."""
        raise NotImplementedError


class Logits:
    """The final norm and the unembedding, at the last position. They send nothing."""

    point = "logits"
    writes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ("final_in",)

    def delta(self, model: Model, layer: int, clean: Values, corrupted: Values) -> Tensor:
        """There is none: nothing stands behind the logits."""
        raise NotImplementedError

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
