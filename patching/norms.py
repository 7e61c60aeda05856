"""Normalisation layers, and their derivative in closed form.

A norm is ``y = w * (x - mean(x)) / s + b`` with ``s = sqrt(mean((x - mean(x))^2) + eps)``; RMS
norms leave the mean in. Edge scores need the derivative for one gradient per head and port, which
is why it is written out here rather than left to autograd.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tasks.errors import ModelError


def precise(x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """``x`` in float32, or as it is where it is float64 already."""
    return x if x.dtype == torch.float64 else x.float()


def rounding(dtype: torch.dtype) -> float:
    """The relative difference that two ways of computing the same may show in ``dtype``."""
    return 1e-4 if dtype in (torch.float32, torch.float64) else 5e-2


@dataclass(frozen=True, slots=True)
class Norm:
    """One norm of the model: ``module`` computes it, the rest says what it computes."""

    module: nn.Module
    centred: bool
    eps: float
    weight_offset: float

    def __call__(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """The model's own norm."""
        out: Tensor = self.module(x)
        return out

    @property
    def weight(self) -> Float[Tensor, " d"]:
        """The factor applied after dividing by the scale, read from the model at each call."""
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        return weight.detach() + self.weight_offset

    def centre(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """``x`` less its mean over features where the norm removes it, in float32 or better."""
        x = precise(x)
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def scale(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b 1"]:
        """What the centred ``x`` is divided by."""
        return (self.centre(x).square().mean(-1, keepdim=True) + self.eps).sqrt()

    def pull_centre(self, g: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """A gradient at the centred ``x``, carried back to ``x``."""
        return g - g.mean(-1, keepdim=True) if self.centred else g


def find_norm(module: nn.Module, width: int) -> Norm:
    """Recognise a norm by what it computes, not by its class name.

    Raises:
        ModelError: it is neither a LayerNorm nor an RMS norm of its weight, or of 1 + weight.
    """
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.shape != (width,):
        raise ModelError(
            f"norm {type(module).__name__} has no weight of length {width}, so its derivative "
            f"is not known here; circuits handles LayerNorm and RMSNorm"
        )
    names = ("eps", "variance_epsilon")
    eps = next((float(getattr(module, n)) for n in names if hasattr(module, n)), 1e-6)
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(4, width, generator=generator) * 2 + 0.5
    probe = probe.to(weight.device, weight.dtype)
    bias = getattr(module, "bias", None)
    with torch.no_grad():
        given = module(probe).double() - (0 if bias is None else bias.double())
        for centred in (True, False):
            for offset in (0.0, 1.0):
                norm = Norm(module, centred, eps, offset)
                ours = norm.centre(probe) / norm.scale(probe) * norm.weight
                ours, tolerance = ours.double(), rounding(weight.dtype)
                if torch.allclose(ours, given, rtol=tolerance, atol=tolerance):
                    return norm
    raise ModelError(
        f"norm {type(module).__name__} computes neither LayerNorm nor RMSNorm; "
        f"circuits cannot take it apart"
    )
