"""The finished picture: a placed circuit with layer bands behind it and a legend below it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING

from graphs import style
from graphs.dot import DEFAULTS, Pen
from graphs.legend import block, legend, text
from graphs.order import layer_of

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph
    from graphs.place import Placement

MARGIN, LEAST_WIDTH = 52.0, 430.0


def plate(pen: Pen, caption: list[str], placed: Placement, dpi: int = 72) -> str:
    """DOT text in which everything has its place, to be drawn with the layout ``nop2``."""
    graph = pen.graph
    room = max(placed.width + MARGIN + 4, LEAST_WIDTH)
    lines = [
        "digraph circuit {",
        f'outputorder=nodesfirst splines=true pad=0.1 dpi={dpi} bgcolor="{style.PAPER}"',
        *DEFAULTS,
        *_bands(graph, placed, room),
    ]
    for node, box in zip(graph.scored_nodes, placed.boxes, strict=True):
        lines.append(f'{pen.ids[node.name]} [pos="{box.x:.2f},{box.y:.2f}" {pen.node(node)}]')
    lines += legend(pen, caption, 6 - MARGIN, room)
    # Weak edges come first, so that the strong ones lie on top.
    for index, item in sorted(enumerate(graph.scored_edges), key=lambda pair: abs(pair[1].score)):
        sender, receiver = pen.ids[item.edge.sender.name], pen.ids[item.edge.receiver.name]
        drawn = pen.edge(index, item)
        lines.append(f'{sender} -> {receiver} [pos="{placed.splines[index]}" {drawn}]')
    return "\n".join([*lines, "}"]) + "\n"


def _bands(graph: CircuitGraph, placed: Placement, room: float) -> Iterable[str]:
    """A label for each layer, and a grey band behind every second one."""
    anatomy = graph.info.anatomy
    pairs = zip(graph.scored_nodes, placed.boxes, strict=True)
    grey = False
    for layer, inside in groupby(pairs, key=lambda pair: layer_of(pair[0].site, anatomy)):
        boxes = [box for _, box in inside]
        if not 0 <= layer < anatomy.n_layers:
            continue
        low = min(box.y - box.height / 2 for box in boxes)
        high = max(box.y + box.height / 2 for box in boxes)
        middle = (low + high) / 2
        if grey:
            size = (room, high - low + 14)
            yield block(f"band{layer}", room / 2 - MARGIN, middle, *size, style.BAND)
        yield text(f"layer{layer}", f"layer {layer}", 6 - MARGIN, middle, 9, style.PALE_INK)
        grey = not grey
