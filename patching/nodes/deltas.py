"""What a layout's nodes write and read, each by its kind."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from patching.model import Model
from patching.nodes.ends import Input, Logits
from patching.nodes.gradients import PortGradient
from patching.nodes.heads import Heads
from patching.nodes.kind import Receiver, Sender, Slopes, Values
from patching.nodes.layout import Layout, Ports
from patching.nodes.mlps import Mlps
from patching.nodes.neurons import Neurons
from patching.ops import Point
from patching.sitesets import point_of

SENDERS: Mapping[str, Sender] = {
    "input": Input(),
    "head": Heads(),
    "mlp": Mlps(),
    "neuron": Neurons(),
}
RECEIVERS: Mapping[str, Receiver] = {
    "head": Heads(),
    "mlp": Mlps(),
    "neuron": Neurons(),
    "logits": Logits(),
}


def points_of(layout: Layout) -> list[Point]:
    """The points that hold what all senders send, in order."""
    return [point_of(group.site(0)) for group in layout.senders]


def write_kinds(layout: Layout) -> tuple[str, ...]:
    """The kinds of points that the writes of a layout's senders are made of."""
    kinds = [kind for group in layout.senders for kind in SENDERS[group.kind].writes]
    return tuple(dict.fromkeys(kinds))


def read_kinds(layout: Layout) -> tuple[str, ...]:
    """The kinds of points of whose gradients those at a layout's ports are made."""
    kinds = [kind for group in layout.ports for kind in RECEIVERS[group.kind].reads]
    return tuple(dict.fromkeys(kinds))


def value_kinds(layout: Layout) -> tuple[str, ...]:
    """The kinds of points whose values are needed for that."""
    kinds = [kind for group in layout.ports for kind in RECEIVERS[group.kind].values]
    return tuple(dict.fromkeys(kinds))


def deltas(
    model: Model, layout: Layout, clean: Values, corrupted: Values
) -> Float[Tensor, "u b s d"]:
    """Clean minus corrupted writes of every sender, in order, in float32 or better.

    Written in place group by group, so that they are never held twice.
    """
    first, *others = layout.senders
    start = SENDERS[first.kind].delta(model, first.layer, clean, corrupted)
    stack = start.new_empty(layout.n_senders, *start.shape[1:])
    stack[first.slice] = start
    for group in others:
        stack[group.slice] = SENDERS[group.kind].delta(model, group.layer, clean, corrupted)
    return stack


def gradients(model: Model, layout: Layout, slopes: Slopes) -> list[tuple[Ports, PortGradient]]:
    """Gradients at the stream that all ports read, receiver by receiver.

    In the order of the layout's ports; the three ports of a layer's heads come together, with the
    first of them.
    """
    made: dict[tuple[str, int], tuple[Ports, PortGradient]] = {}
    for group in layout.ports:
        at = group.kind, group.layer
        if at not in made:
            made[at] = group, RECEIVERS[group.kind].gradient(model, group.layer, slopes)
    return list(made.values())
