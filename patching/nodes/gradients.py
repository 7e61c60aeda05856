"""Gradients at the residual stream that ports read, as compact as they come, filled in by tiles.

One gradient per port at the width of the stream would take several times the memory of the run
itself. So each is kept as what it is made of, for all prompts and positions, and multiplied out for
some of them at a time. Those of several backward passes add up before that where they can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

from jaxtyping import Float
from torch import Tensor

from patching.norms import Norm
from patching.ops import Where


class PortGradient(Protocol):
    """Gradients at the stream that some ports read, summed over backward passes."""

    @property
    def rows(self) -> int:
        """How many ports there are."""
        ...

    def fill(self, out: Float[Tensor, "r b s d"], where: Where) -> None:
        """Write the gradients at some prompts and positions."""
        ...

    def plus(self, other: Self) -> Self | None:
        """With those of another pass; None where they cannot be added before they are filled in."""
        ...


@dataclass(frozen=True)
class Stream:
    """One port whose gradient the backward pass has as it is."""

    gradient: Float[Tensor, "b s d"]
    rows: int = 1

    def fill(self, out: Float[Tensor, "1 b s d"], where: Where) -> None:
        """A copy."""
        out[0] = self.gradient[where]

    def plus(self, other: Stream) -> Stream:
        """The sum."""
        return Stream(self.gradient + other.gradient)


@dataclass(frozen=True)
class AtEnd:
    """One port that reads the last of ``length`` positions."""

    gradient: Float[Tensor, "b d"]
    length: int
    rows: int = 1

    def fill(self, out: Float[Tensor, "1 b s d"], where: Where) -> None:
        """Zero everywhere else."""
        out.zero_()
        if where[1].stop is None or where[1].stop >= self.length:
            out[0, :, -1] = self.gradient[where[0]]

    def plus(self, other: AtEnd) -> AtEnd:
        """The sum."""
        return replace(self, gradient=self.gradient + other.gradient)


@dataclass(frozen=True)
class Whole:
    """Ports whose gradients are made for each tile: they do not add up before that."""

    rows: int
    made: Callable[[Where], Float[Tensor, "b r s d"]]

    def fill(self, out: Float[Tensor, "r b s d"], where: Where) -> None:
        """As they are made."""
        out.copy_(self.made(where).transpose(0, 1))

    def plus(self, other: Whole) -> None:  # noqa: ARG002
        """They do not add up."""
        return


@dataclass(frozen=True)
class Factored:
    """Ports that are matrices behind one norm: queries, keys and values of a layer.

    The gradient at the stream is ``C(w (g_h a) W_h) + sum of c_h m``: ``inner`` holds ``g_h a``,
    ``weights`` the matrices ``W`` per unit, which several heads may share, and ``along`` the
    coefficients ``c`` with their directions ``m``, of every pass that was added.
    """

    norm: Norm
    weights: Sequence[Float[Tensor, "u e d"]]
    inner: Sequence[Float[Tensor, "b s h e"]]
    along: Sequence[tuple[Float[Tensor, "r b s"], Float[Tensor, "b s d"]]]

    @property
    def rows(self) -> int:
        """Heads times ports."""
        return sum(part.shape[2] for part in self.inner)

    def fill(self, out: Float[Tensor, "r b s d"], where: Where) -> None:
        """One matrix product per port, then the norm's own share."""
        start = 0
        for inner, weight in zip(self.inner, self.weights, strict=True):
            part = inner[where].permute(2, 0, 1, 3)
            stacked = part.reshape(len(weight), -1, weight.shape[1]).to(weight.dtype)
            rows = out[start : start + len(part)]
            rows.view(len(weight), -1, out.shape[-1]).copy_(stacked @ weight)
            start += len(part)
        scale = self.norm.weight
        if scale.ndim:
            out.mul_(scale)
        if self.norm.centred:
            out.sub_(out.mean(-1, keepdim=True))
        for coefficient, direction in self.along:
            out.addcmul_(coefficient[:, *where, None], direction[where])

    def plus(self, other: Factored) -> Factored:
        """The sum of the inner parts; directions stand side by side."""
        inner = [a + b for a, b in zip(self.inner, other.inner, strict=True)]
        return replace(self, inner=inner, along=(*self.along, *other.along))
