"""A sheet as SVG text: no scripts, no links, no outside references."""

from __future__ import annotations

from graphs.shapes import Path
from graphs.sheet import Box, Curve, Mark, Part, Sheet, Text
from graphs.style import DASHES, FONT, PAPER, markup

_NAMESPACE = "http://www.w3.org/2000/svg"


def svg(sheet: Sheet) -> str:
    """The same sheet is the same text. Curves have no fill, and frames are thin."""
    width, height = sheet.size
    unit = "" if sheet.width is None else "in"
    shown = [value * sheet.scale / (72 if unit else 1) for value in (width, height)]
    font = f"{sheet.font},{FONT}" if sheet.font else FONT
    box = " ".join(_number(value) for value in (sheet.left, sheet.top, width, height))
    lines = [
        f'<svg xmlns="{_NAMESPACE}" width="{_number(shown[0], 3)}{unit}" '
        f'height="{_number(shown[1], 3)}{unit}" viewBox="{box}" font-family="{markup(font)}" '
        f'role="img">',
        f"<title>{markup(sheet.title)}</title>",
        f'<rect x="{_number(sheet.left)}" y="{_number(sheet.top)}" width="{_number(width)}" '
        f'height="{_number(height)}" fill="{PAPER}"/>',
        *(line for part in sheet.parts for line in _part(part)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _part(part: Part) -> list[str]:
    marks = [_mark(mark) for mark in part.marks]
    if not part.kind:
        return marks
    title = f"<title>{markup(part.title)}</title>"
    return [f'<g class="{part.kind}">{title}', *marks, "</g>"]


def _mark(mark: Mark) -> str:
    if isinstance(mark, Box):
        return _box(mark)
    return _curve(mark) if isinstance(mark, Curve) else _text(mark)


def _box(box: Box) -> str:
    frame = f' stroke="{box.stroke}" stroke-width="0.8"' if box.stroke else ""
    radius = f' rx="{_number(box.radius)}"' if box.radius else ""
    return (
        f'<rect x="{_number(box.x - box.width / 2)}" y="{_number(box.y - box.height / 2)}" '
        f'width="{_number(box.width)}" height="{_number(box.height)}"{radius} '
        f'fill="{box.fill}"{frame}{_opacity(box.opacity)}/>'
    )


def _curve(curve: Curve) -> str:
    dashes = ",".join(map(str, DASHES))
    dashed = f' stroke-dasharray="{dashes}"' if curve.dashed else ""
    return (
        f'<path d="{_way(curve.path)}" fill="none" stroke="{curve.colour}" '
        f'stroke-width="{_number(curve.width, 2)}"{dashed}{_opacity(curve.opacity)}/>'
    )


def _way(path: Path) -> str:
    points = [f"{_number(x)},{_number(y)}" for x, y in path]
    pieces = (f"C{' '.join(points[i : i + 3])}" for i in range(1, len(points), 3))
    return f"M{points[0]}{''.join(pieces)}"


def _text(text: Text) -> str:
    anchor = "" if text.anchor == "start" else f' text-anchor="{text.anchor}"'
    return (
        f'<text x="{_number(text.x)}" y="{_number(text.y)}" font-size="{_number(text.size)}" '
        f'fill="{text.colour}"{anchor}{_opacity(text.opacity)}>{markup(text.text)}</text>'
    )


def _opacity(opacity: float) -> str:
    return "" if opacity == 1 else f' opacity="{_number(opacity, 2)}"'


def _number(value: float, digits: int = 1) -> str:
    """A number without needless zeros, and without a minus before zero."""
    return f"{round(value, digits) + 0.0:g}"
