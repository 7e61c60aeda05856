"""What a kind of node has to say of itself, apart from its name and its place in the order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from patching.model import Model
from patching.nodes.gradients import PortGradient
from patching.norms import precise
from patching.ops import Ops, Point

Values = Mapping[Point, Tensor]


@dataclass(frozen=True)
class Slopes:
    """Values and gradients at some points of one run, and the derivatives that go with them.

    ``weight`` is what the gradients count for in the sum over backward passes.
    """

    values: Values
    grads: Values
    ops: Ops
    weight: float = 1.0

    def gradient(self, kind: str, layer: int) -> Tensor:
        """One of the gradients in float32 or better, times the weight."""
        grad = precise(self.grads[kind, layer])
        return grad if self.weight == 1 else grad * self.weight


class Sender(Protocol):
    """How nodes of one kind write to the residual stream.

    ``writes`` are the kinds of points of both runs that their writes are made of.
    """

    writes: tuple[str, ...]

    def delta(
        self, model: Model, layer: int, clean: Values, corrupted: Values
    ) -> Float[Tensor, "u b s d"]:
        """Clean minus corrupted writes of one layer's nodes, in float32 or better.

        Writes of all nodes of a layer add up to what the layer writes, without constant biases,
        which cancel between the runs.
        """
        ...


class Receiver(Protocol):
    """How nodes of one kind read the residual stream.

    ``reads`` are the kinds of points of whose gradients those at their input ports are made,
    ``values`` the kinds whose values in the same run that takes.
    """

    reads: tuple[str, ...]
    values: tuple[str, ...]

    def gradient(self, model: Model, layer: int, slopes: Slopes) -> PortGradient:
        """The metric's gradient at the residual stream that each of a layer's ports reads."""
        ...


def difference(clean: Values, corrupted: Values, point: Point) -> Tensor:
    """In float32 or better, so that what the runs share cancels without rounding."""
    return precise(clean[point]) - precise(corrupted[point])
