"""The static picture, drawn by Graphviz: input at the top, logits at the bottom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from graphs import engine, style
from graphs.choose import strongest
from graphs.dot import Pen, captioned, layout_source, to_dot
from graphs.place import in_rows, read_placement
from graphs.plate import plate
from tasks.atomic import write_atomically
from tasks.errors import FormatError, unknown

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph
    from graphs.diff import CircuitDiff

PICTURES = ("dot", "pdf", "png", "svg")
MOST_EDGES = 250
DPI = 144

_NOISE = re.compile(
    r'<\?xml.*?\?>\s*|<!--.*?-->\s*|<!DOCTYPE.*?>\s*| xml:space="preserve"', re.DOTALL
)
_TITLE = re.compile(r'(<g id="([^"]*)" class="[a-z]+"[^>]*>)\s*<title>[^<]*</title>')
_PLACES = re.compile(r' (?:points|d|x|y)="[^"]*"')
_DECIMALS = re.compile(r"(?<=\d\.\d)\d+")
_CELL = re.compile(
    r'<polygon fill="([^"]+)" stroke="none" points="[^"]+"/>\s*'
    r'<polygon fill="none" stroke="([^"]+)" points="([^"]+)"/>\s*'
    r'<text text-anchor="start" x="[^"]+"( y=)'
)


def draw(graph: CircuitGraph, path: str | Path) -> None:
    """Write a picture in the format that the suffix of ``path`` names; replaces ``path``.

    Raises:
        FormatError: another suffix than .svg, .png, .pdf or .dot, or Graphviz is missing.
    """
    write_atomically(path, picture(graph, _form(path)))


def draw_diff(diff: CircuitDiff, path: str | Path) -> None:
    """Write a picture of what changed; formats and errors are those of :func:`draw`."""
    write_atomically(path, diff_picture(diff, _form(path)))


def picture(graph: CircuitGraph, form: str) -> bytes:
    """The picture as bytes of the format ``svg``, ``png``, ``pdf`` or ``dot``.

    More than :data:`MOST_EDGES` edges are no picture any more: the strongest are drawn, and the
    legend says so.

    Raises:
        FormatError: Graphviz is missing or fails.
    """
    if form == "dot":
        return to_dot(graph).encode()
    shown, note = _drawable(graph)
    return _render(Pen(shown), style.caption(graph.info, note), form)


def diff_picture(diff: CircuitDiff, form: str) -> bytes:
    """Both circuits in one picture: what only the right one has in blue, only the left in orange.

    Widths are those of ``right`` where it has a score, of ``left`` elsewhere.

    Raises:
        FormatError: Graphviz is missing or fails.
    """
    shown, note = _drawable(diff.right.union(diff.left))
    signs = dict.fromkeys(diff.added, 1.0) | dict.fromkeys(diff.removed, -1.0)
    meaning = ((1.0, "only right"), (-1.0, "only left"), (0.0, "both"))
    sides = [f"{side}: {'; '.join(style.caption(graph.info))}" for side, graph in diff.sides]
    caption = [style.caption(shown.info)[0], diff.describe(), *sides, *([note] if note else [])]
    pen = Pen(shown, meaning, signs)
    return captioned(pen, caption).encode() if form == "dot" else _render(pen, caption, form)


def to_svg(graph: CircuitGraph) -> str:
    """The picture as SVG text without scripts, links or outside references.

    Raises:
        FormatError: Graphviz is missing or fails.
    """
    return picture(graph, "svg").decode()


def _form(path: str | Path) -> str:
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in PICTURES:
        raise FormatError(unknown("picture format", suffix, PICTURES))
    return suffix


def _render(pen: Pen, caption: list[str], form: str) -> bytes:
    data = engine.run(layout_source(pen), "dot", "json")
    placed = read_placement(data) if pen.graph.edges else in_rows(data, pen.graph)
    source = plate(pen, caption, placed, DPI if form == "png" else 72)
    drawn = engine.run(source, "nop2", form)
    if form == "pdf":
        # The date of drawing, in as many bytes: the same circuit is the same file.
        return re.sub(rb"(/CreationDate \(D:)\d{14}", rb"\g<1>20000101000000", drawn)
    return _tidy(drawn.decode(), pen.graph).encode() if form == "svg" else drawn


def _drawable(graph: CircuitGraph) -> tuple[CircuitGraph, str]:
    """The circuit, or its strongest edges with a note that says so."""
    if len(graph.edges) <= MOST_EDGES:
        return graph, ""
    return strongest(graph, MOST_EDGES), f"only the {MOST_EDGES:,} strongest of them drawn"


def _tidy(svg: str, graph: CircuitGraph) -> str:
    """Smaller, centred in any font, and with a title on every edge that says its score."""
    titles = {"graph0": style.caption(graph.info)[0]}
    titles |= {f"n{index}": name for index, name in enumerate(graph.nodes)}
    for index, item in enumerate(graph.scored_edges):
        titles[f"e{index}"] = f"{item.name}  {style.number(item.score)}"
    svg = _NOISE.sub("", svg)
    svg = _TITLE.sub(lambda found: _titled(found, titles), svg)
    svg = _CELL.sub(_centred, svg)
    svg = _PLACES.sub(lambda found: _DECIMALS.sub("", found[0]), svg)
    font = f' font-family="{style.FONT}"'
    return svg.replace(font, "").replace("<svg ", f"<svg{font} ", 1)


def _titled(found: re.Match[str], titles: dict[str, str]) -> str:
    """A part's title as a reader wants it; what only decorates has none."""
    told = titles.get(found[2])
    return found[1] + (f"\n<title>{style.markup(told)}</title>" if told is not None else "")


def _centred(cell: re.Match[str]) -> str:
    """One box with text in its middle, where Graphviz draws fill, frame and text by measure."""
    fill, stroke, points, rest = cell.groups()
    left, *_, right = sorted(float(point.partition(",")[0]) for point in points.split())
    return (
        f'<polygon fill="{fill}" stroke="{stroke}" points="{points}"/>\n'
        f'<text text-anchor="middle" x="{(left + right) / 2:.1f}"{rest}'
    )
