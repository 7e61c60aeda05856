"""The legend of a picture: what the circuit is, and what lines and colours mean."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from graphs import style
from graphs.dot import Pen

_LINE, _SAMPLE, _SIZE = 14.0, 34.0, 9.0


def legend(pen: Pen, caption: list[str], left: float, room: float) -> list[str]:
    """DOT nodes and edges for the lines below a picture whose lower edge is at ``y = 0``."""
    y = -26.0
    lines: list[str] = []
    for index, told in enumerate(caption):
        size = 12.0 if index == 0 else _SIZE
        for part in textwrap.wrap(told, int(room / (0.55 * size))):
            lines.append(text(f"said{len(lines)}", part, left, y, size))
            y -= _LINE + (2 if index == 0 else 0)
    return [*lines, *_key(pen, left, y - 4)]


def _key(pen: Pen, left: float, y: float) -> Iterable[str]:
    """The sign, then widths from the largest score drawn down to the smallest."""
    graph = pen.graph
    if graph.scored_edges:
        x = left
        for order, (sign, told) in enumerate(pen.meaning):
            yield _line(f"sign{order}", x, y, sign, 0.4)
            yield text(f"sign{order}t", told, x + _SAMPLE + 6, y, _SIZE)
            x += _advance(told)
        y -= _LINE
        yield from _widths(pen, left, y)
    elif pen.largest > 0:
        x = left
        for order, (sign, told) in enumerate(pen.meaning):
            tone = style.blend(style.colour(sign), 0.6)
            yield block(f"sign{order}", x + _SAMPLE / 2, y, _SAMPLE, 9, tone)
            yield text(f"sign{order}t", told, x + _SAMPLE + 6, y, _SIZE)
            x += _advance(told)
    inputs = " with their inputs q, k, v" if graph.scored_edges else ""
    names = {"head": f"boxes: attention heads{inputs}", "mlp": "ellipses: MLPs"}
    names |= {"neuron": "hexagons: neurons", "latent": "octagons: latents"}
    names["error"] = "diamonds: error terms"
    present = {node.site.kind for node in graph.scored_nodes}
    if told := "; ".join(name for kind, name in names.items() if kind in present):
        yield text("kinds", told, left, y - _LINE, _SIZE)


def _widths(pen: Pen, left: float, y: float) -> Iterable[str]:
    smallest = min(abs(item.score) for item in pen.graph.scored_edges)
    # Halved before adding, so that the largest finite scores do not overflow.
    middle = pen.largest / 2 + smallest / 2
    for order, value in enumerate((pen.largest, middle, smallest)):
        told = ("|score| " if order == 0 else "") + style.number(value)
        yield _line(f"width{order}", left, y, 0.0, style.relative(value, pen.largest))
        yield text(f"width{order}t", told, left + _SAMPLE + 6, y, _SIZE)
        left += _advance(told)


def _advance(told: str) -> float:
    return _SAMPLE + 22 + style.text_width(told, 0.9 * _SIZE)


def _line(name: str, x: float, y: float, sign: float, share: float) -> str:
    """A short piece of line as edges are drawn."""
    points = [f"{x + _SAMPLE * step / 3:.2f},{y}" for step in range(4)]
    end = "shape=point style=invis width=0.01"
    return (
        f'{name}a [{end} pos="{points[0]}"]\n{name}b [{end} pos="{points[-1]}"]\n'
        f'{name}a -> {name}b [pos="{" ".join(points)}" arrowhead=none color="{style.colour(sign)}" '
        f"style={style.dashes(sign)} penwidth={style.pen_width(share)}]"
    )


def text(name: str, told: str, left: float, y: float, size: float, tone: str = style.INK) -> str:
    """A DOT node that is one line of text from ``left`` on, in the middle of its height."""
    width = style.text_width(told, 0.86 * size)
    label = style.quoted(told)[1:-1]
    return (
        f"{name} [shape=plaintext fixedsize=true margin=0 width={width / 72:.3f} "
        f'height={size / 36:.3f} pos="{left + width / 2:.2f},{y:.2f}" fontcolor="{tone}" '
        f'fontsize={size} label="{label}\\l"]'
    )


def block(name: str, x: float, y: float, width: float, height: float, tone: str) -> str:
    """A DOT node that is a filled rectangle around ``x, y``."""
    return (
        f'{name} [shape=box style=filled penwidth=0 fixedsize=true label="" fillcolor="{tone}" '
        f'width={width / 72:.3f} height={height / 72:.3f} pos="{x:.2f},{y:.2f}"]'
    )
