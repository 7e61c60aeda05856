"""The legend of a picture: what the circuit is, and what lines and colours mean."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphs import style
from graphs.sheet import Box, Curve, Mark, Text

if TYPE_CHECKING:
    from graphs.pen import Pen
    from graphs.shapes import Layout

TITLE, SMALL = 12.0, 9.0
_LINE, _SAMPLE, _GAP = 14.0, 30.0, 18.0
_OF_KINDS = {
    "head": "boxes: attention heads",
    "mlp": "rounded boxes: MLPs",
    "neuron": "rounded boxes: neurons",
    "latent": "rounded boxes: latents",
    "error": "rounded boxes: error terms",
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of the key: a sample, drawn from a place on, and what it stands for."""

    words: str
    sample: Callable[[float, float], Mark] | None = None

    @property
    def width(self) -> float:
        """In points, with the space to the next one."""
        return (
            (_SAMPLE + 6 if self.sample else 0) + style.text_width(self.words, 0.9 * SMALL) + _GAP
        )


def legend(
    pen: Pen, placed: Layout, lines: Sequence[str], left: float, top: float, room: float
) -> list[Mark]:
    """The lines of a caption, then the key, from ``left, top`` on in so much room."""
    marks: list[Mark] = []
    y = top
    for order, line in enumerate(lines):
        size = TITLE if order == 0 else SMALL
        for piece in textwrap.wrap(line, max(int(room / (0.58 * size)), 8)):
            y += _LINE + (2 if order == 0 else 0)
            marks.append(Text(left, y, piece, size, style.INK))
    x, y = left, y + _LINE + (4 if lines else 0)
    for entry in _entries(pen, placed):
        if x > left and x + entry.width - _GAP > left + room:
            x, y = left, y + _LINE
        if entry.sample is not None:
            marks.append(entry.sample(x, y - 3))
        start = x + (_SAMPLE + 6 if entry.sample else 0)
        marks.append(Text(start, y, entry.words, SMALL, style.INK))
        x += entry.width
    return marks


def _entries(pen: Pen, placed: Layout) -> Iterable[_Entry]:
    """The sign, then widths from the largest score drawn to the smallest, then the shapes."""
    edges = pen.graph.scored_edges
    for sign, words in pen.meaning if pen.largest > 0 else ():
        yield _Entry(words, _line(sign, 0.4) if edges else _patch(sign))
    if edges:
        smallest = min(abs(item.score) for item in edges)
        # Halved before adding, so that the largest finite scores do not overflow.
        middle = pen.largest / 2 + smallest / 2
        for order, value in enumerate((pen.largest, middle, smallest)):
            words = ("|score| " if order == 0 else "") + style.number(value)
            yield _Entry(words, _line(0.0, style.relative(value, pen.largest)))
    present = {node.site.kind for node in pen.graph.scored_nodes}
    for kind, words in _OF_KINDS.items():
        if kind in present:
            yield _Entry(words)
    if any(item.edge.port for item in edges):
        side = "left to right" if placed.upright else "the top down"
        yield _Entry(f"a head's inputs, from {side}: q, k, v")


def _line(sign: float, share: float) -> Callable[[float, float], Mark]:
    def sample(x: float, y: float) -> Mark:
        path = tuple((x + _SAMPLE * step / 3, y) for step in range(4))
        return Curve(path, style.colour(sign), style.pen_width(share), sign < 0)

    return sample


def _patch(sign: float) -> Callable[[float, float], Mark]:
    tone = style.blend(style.colour(sign), 0.6)
    return lambda x, y: Box(x + _SAMPLE / 2, y, _SAMPLE, 9, tone)
