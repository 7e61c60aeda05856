"""The finished picture of a circuit: bands of layers, edges, nodes, and a legend below them.

It has the places of the page (:mod:`graphs.layout`), its colours and its widths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphs import style
from graphs.layout import WIDTH, layout
from graphs.legend import legend
from graphs.order import ENDS
from graphs.shapes import SLOT, Layout, Spot
from graphs.sheet import Box, Curve, Mark, Part, Sheet, Text

if TYPE_CHECKING:
    from graphs.parts import ScoredEdge, ScoredNode
    from graphs.pen import Pen

MARGIN, HEAD, LEAST_WIDTH, FAINT = 12.0, 22.0, 300.0, 0.2
_FONT, _SIDE, _BACK = 10.0, 64.0, 3.0
_RADII = {"mlp": 0.5, "neuron": 0.25, "latent": 0.25, "error": 0.25}


@dataclass(frozen=True, slots=True)
class Wish:
    """How a picture is asked for: see :func:`graphs.draw.draw`."""

    width: float | None = None
    font: str = ""
    lit: AbstractSet[str] = field(default_factory=frozenset)


def compose(
    pen: Pen, caption: Sequence[str], wish: Wish, folds: Mapping[str, tuple[str, ...]]
) -> Sheet:
    """Everything in its place. ``folds`` names what a node stands for besides itself."""
    room = WIDTH if wish.width is None else wish.width * 72 - 2 * MARGIN
    placed = layout(pen.graph, room)
    left, top, right, bottom = placed.box
    left, top = left - MARGIN - (_SIDE if placed.upright else 0), top - HEAD - MARGIN
    # A picture of an asked width needs no more for its legend: that has more lines instead.
    least = LEAST_WIDTH if wish.width is None else min(LEAST_WIDTH, wish.width * 72)
    right = max(right + MARGIN, left + least)
    near = _near(pen, wish.lit)
    below = legend(pen, placed, caption, left + MARGIN, bottom + 10, right - left - 2 * MARGIN)
    lowest = max((mark.y for mark in below if isinstance(mark, Text)), default=bottom)
    nodes = [
        _node(pen, node, placed, folds.get(node.name, ()), _opacity(node.name, near))
        for node in pen.graph.scored_nodes
    ]
    parts = [*_bands(placed), *_edges(pen, placed, wish.lit), *nodes, Part(tuple(below))]
    title = caption[0] if caption else style.caption(pen.graph.info)[0]
    return Sheet(left, top, right, lowest + MARGIN, tuple(parts), title, wish.font, wish.width)


def _is_lit(item: ScoredEdge, lit: AbstractSet[str]) -> bool:
    return not lit or item.name in lit or not lit.isdisjoint(item.ends)


def _near(pen: Pen, lit: AbstractSet[str]) -> set[str]:
    """What is highlighted, and the nodes at the ends of highlighted edges; nothing means all."""
    edges = (item for item in pen.graph.scored_edges if lit and _is_lit(item, lit))
    return set(lit).union(*(item.ends for item in edges))


def _opacity(name: str, near: AbstractSet[str]) -> float:
    return 1.0 if not near or name in near else FAINT


def _bands(placed: Layout) -> Iterable[Part]:
    """A grey band behind every second column, then a label for each: bands may overlap."""
    _, top, _, bottom = placed.box
    tall = bottom - top + HEAD + 8
    for column in placed.columns[1::2]:
        middle, width = (column.low + column.high) / 2, column.high - column.low + 8
        yield Part((Box(middle, top - HEAD + tall / 2, width, tall, style.BAND),))
    for column in placed.columns:
        width = column.high - column.low + 8
        middle = (column.low + column.high) / 2
        told = column.label
        if not placed.upright and not placed.looks.short:
            told = f"layer {told}"
        yield Part((_fitting(middle, top - HEAD + 13, told, width, style.PALE_INK),))
    if placed.looks.short and placed.columns and not placed.upright:
        first = placed.columns[0].low - 6
        yield Part((Text(first, top - HEAD + 13, "layer", _FONT, style.PALE_INK, "end"),))
    left = placed.box[0] - 8
    for row in placed.rows:
        y = (row.low + row.high) / 2 + 3
        yield Part((Text(left, y, row.label, _FONT, style.PALE_INK, "end"),))


def _edges(pen: Pen, placed: Layout, lit: AbstractSet[str]) -> Iterable[Part]:
    """Weak edges come first, so that the strong ones lie on top; highlighted ones above all."""
    thin = 0.7 if placed.looks.short else 1.0
    for item in sorted(pen.graph.scored_edges, key=lambda e: (_is_lit(e, lit), abs(e.score))):
        share, sign = pen.share(item), pen.sign(item)
        strength = 0.35 + 0.65 * share**0.5 if _is_lit(item, lit) else FAINT
        base = style.colour(sign)
        width = thin * style.pen_width(share)
        curve = Curve(placed.paths[item.name], base, width, sign < 0, strength)
        yield Part((curve,), "edge", f"{item.name}  {style.number(item.score)}")


def _node(
    pen: Pen, node: ScoredNode, placed: Layout, folded: tuple[str, ...], opacity: float
) -> Part:
    spot, looks, kind = placed.spots[node.name], placed.looks, node.site.kind
    is_end = kind in ("input", *ENDS)
    fill = {"head": style.PAPER}.get(kind, style.DARK if is_end else style.GREY)
    ink = style.PAPER if is_end else style.INK
    if node.score is not None and pen.graph.level == "node":
        fill = style.blend(style.colour(pen.sign(node)), 0.88 - 0.4 * pen.share(node))
        ink = style.INK
    radius = spot.height * _RADII.get(kind, 0.0) or 2.0
    marks: list[Mark] = []
    if folded:
        back = (spot.x + _BACK, spot.y - _BACK, spot.width, spot.height)
        marks.append(Box(*back, fill, style.INK, radius, opacity))
    marks.append(Box(spot.x, spot.y, spot.width, spot.height, fill, style.INK, radius, opacity))
    ports = placed.ports[node.name] if looks.slots and kind == "head" else ()
    room = SLOT if ports else 0.0
    marks += _slots(spot, ports, opacity)
    told = _label(node, placed, folded, spot.width - room - 2)
    words = _fitting(spot.x + room / 2, spot.y + 3.5, told, spot.width - room, ink)
    marks.append(Text(words.x, words.y, told, words.size, ink, "middle", opacity))
    names = ", ".join((node.name, *folded))
    score = "" if node.score is None else f"  {style.number(node.score)}"
    return Part(tuple(marks), "node", names + score)


def _label(node: ScoredNode, placed: Layout, folded: tuple[str, ...], room: float) -> str:
    """The node's name, or how many it stands for, and its score where there is room for it."""
    if folded:
        count = 1 + len(folded)
        return f"{count}h" if placed.looks.short else f"{count} heads"
    name = placed.looks.label(node.site)
    full = name if node.score is None else f"{name}  {style.number(node.score)}"
    return full if style.text_width(full) <= room else name


def _slots(spot: Spot, ports: tuple[str, ...], opacity: float) -> Iterable[Mark]:
    left, tall = spot.x - spot.width / 2, (spot.height - 2) / max(len(ports), 1)
    for order, port in enumerate(ports):
        middle = spot.y - spot.height / 2 + 1 + tall * (order + 0.5)
        box = (left + SLOT / 2, middle, SLOT, tall)
        yield Box(*box, style.BAND, style.INK, 0.0, opacity)
        yield Text(left + SLOT / 2, middle + 3, port, 9.0, style.INK, "middle", opacity)


def _fitting(x: float, y: float, words: str, width: float, colour: str) -> Text:
    """Text around ``x``, smaller where it would be wider than ``width``."""
    size = min(_FONT, _FONT * (width + 6) / style.text_width(words))
    return Text(x, y, words, round(size, 1), colour, "middle")
