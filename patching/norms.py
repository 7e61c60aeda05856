"""Normalisation layers, and their derivative in closed form.

A norm is ``y = w * (x - mean(x)) / s + b`` with ``s = sqrt(mean((x - mean(x))^2) + eps)``; RMS
norms leave the mean in. Edge scores need the derivative for one gradient per head and port, which
is why it is written out here rather than left to autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

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


def _affine(module: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    return getattr(module, "weight", None), getattr(module, "bias", None)


@dataclass(frozen=True)
class Norm:
    """One norm of the model: ``module`` computes it, the rest says what it computes.

    ``affine`` reads weight and bias from the module, each None where there is none. ``by_head``
    says that every head has a weight of its own, ``[heads, d_head]``; ``heads`` then picks, in
    order, the head whose weight each head of ``x`` takes.
    """

    module: nn.Module
    centred: bool
    eps: float
    weight_offset: float
    affine: Callable[[Any], tuple[Tensor | None, Tensor | None]] = _affine
    by_head: bool = False
    heads: Tensor | None = None

    does_nothing = False

    def __call__(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """The model's own norm; in float64 its formula, since many modules fall back to float32."""
        if self.by_head or x.dtype == torch.float64:
            return self._formula(x)
        out: Tensor = self.module(x)
        return out

    def _formula(self, x: Tensor) -> Tensor:
        bias = self._chosen(self.affine(self.module)[1])
        out = self.centre(x) / self.scale(x) * self.weight
        return (out if bias is None else out + bias).to(x.dtype)

    def _chosen(self, value: Tensor | None) -> Tensor | None:
        value = None if value is None else value.detach()
        return value if value is None or self.heads is None else value[self.heads.to(value.device)]

    @property
    def weight(self) -> Float[Tensor, "*h d"]:
        """The factor applied after dividing by the scale, read from the model at each call."""
        weight = self._chosen(self.affine(self.module)[0])
        return torch.ones(()) if weight is None else weight + self.weight_offset

    def of_heads(self, heads: Tensor) -> Norm:
        """The norm of some heads, in this order; itself where all heads share one weight."""
        if not self.by_head:
            return self
        return replace(self, heads=heads if self.heads is None else self.heads[heads])

    def centre(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """``x`` minus its mean over features where the norm removes it, in float32 or better."""
        x = precise(x)
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def scale(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b 1"]:
        """What the centred ``x`` is divided by."""
        return (self.centre(x).square().mean(-1, keepdim=True) + self.eps).sqrt()

    def centre_vjp(self, g: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """A gradient at the centred ``x``, carried back to ``x``."""
        return g - g.mean(-1, keepdim=True) if self.centred else g


class NoNorm(Norm):
    """Instead of a norm that a block does not have: gives ``x`` back."""

    does_nothing = True

    def __init__(self) -> None:
        super().__init__(nn.Identity(), centred=False, eps=0.0, weight_offset=0.0)

    def __call__(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """``x`` itself."""
        return x

    def scale(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b 1"]:
        """One."""
        return torch.ones_like(precise(x[..., :1]))


def find_norm(
    module: nn.Module,
    width: int,
    like: Tensor | None = None,
    affine: Callable[[Any], tuple[Tensor | None, Tensor | None]] = _affine,
) -> Norm:
    """Recognise a norm by what it computes, not by its class name.

    Its weight has the length ``width``, or ``[heads, width]``, or there is none; ``like`` then
    says where and in which number type the model computes.

    Raises:
        ModelError: it is neither a LayerNorm nor an RMS norm of its weight, or of 1 + weight.
    """
    weight, bias = affine(module)
    if weight is not None and weight.shape[-1:] != (width,):
        raise ModelError(
            f"norm {type(module).__name__} has a weight of shape {tuple(weight.shape)} where "
            f"circuits expects one of length {width}"
        )
    by_head = weight is not None and weight.ndim == 2
    like = weight if weight is not None else like
    names = ("eps", "variance_epsilon")
    first = next(iter(module.modules())) if not by_head else _first_with(module, names)
    eps = next((float(getattr(first, n)) for n in names if hasattr(first, n)), None)
    generator = torch.Generator().manual_seed(0)
    shape = (4, *(() if weight is None else weight.shape[:-1]), width)
    probe = torch.randn(shape, generator=generator) * 2 + 0.5
    # One row so small that eps shows.
    probe[0] *= 1e-3
    probe = probe if like is None else probe.to(like.device, like.dtype)
    with torch.no_grad():
        given = _own(module, probe, by_head).double() - (0 if bias is None else bias.double())
        for norm in _candidates(module, eps, affine, by_head):
            ours = norm.centre(probe) / norm.scale(probe) * norm.weight.to(probe.device)
            ours, tolerance = ours.double(), rounding(probe.dtype)
            if torch.allclose(ours, given, rtol=tolerance, atol=tolerance):
                return norm
    raise ModelError(
        f"norm {type(module).__name__} computes neither LayerNorm nor RMSNorm; "
        f"circuits cannot take it apart"
    )


def _candidates(module: nn.Module, eps: float | None, affine: Any, by_head: bool) -> list[Norm]:
    # A module without the attribute has its eps in its code: the values in use are tried.
    return [
        Norm(module, centred, value, offset, affine, by_head)
        for value in ((1e-6, 1e-5) if eps is None else (eps,))
        for centred in (True, False)
        for offset in (0.0, 1.0)
    ]


def _first_with(module: nn.Module, names: tuple[str, ...]) -> nn.Module:
    inside = [m for m in module.modules() if any(hasattr(m, name) for name in names)]
    return inside[0] if inside else module


def _own(module: nn.Module, probe: Tensor, by_head: bool) -> Tensor:
    """The module's value; a list of norms, one a head, takes heads before positions."""
    if by_head and not hasattr(module, "weight"):
        out: Tensor = module(probe[:, :, None])[:, :, 0]
        return out
    value: Tensor = module(probe)
    return value
