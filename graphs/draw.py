"""The static picture, drawn by Graphviz: input at the top, logits at the bottom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from graphs import engine, style
from graphs.dot import layout_source, to_dot
from graphs.files import write_atomically
from graphs.place import in_rows, read_placement
from graphs.plate import plate
from tasks.errors import FormatError, unknown

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph

PICTURES = ("dot", "pdf", "png", "svg")
MOST_EDGES = 400
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
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in PICTURES:
        raise FormatError(unknown("picture format", suffix, PICTURES))
    write_atomically(path, picture(graph, suffix))


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
    data = engine.run(layout_source(shown), "dot", "json")
    placed = read_placement(data) if shown.edges else in_rows(data, shown)
    drawn = engine.run(plate(shown, placed, note, DPI if form == "png" else 72), "nop2", form)
    return _tidy(drawn.decode(), shown).encode() if form == "svg" else drawn


def to_svg(graph: CircuitGraph) -> str:
    """The picture as SVG text without scripts, links or outside references.

    Raises:
        FormatError: Graphviz is missing or fails.
    """
    return picture(graph, "svg").decode()


def _drawable(graph: CircuitGraph) -> tuple[CircuitGraph, str]:
    """The circuit, or its strongest edges with a note that says so."""
    if len(graph.edges) <= MOST_EDGES:
        return graph, ""
    names = set(graph.ranked()[:MOST_EDGES])
    edges = [item for item in graph.scored_edges if item.name in names]
    shown = type(graph)(graph.info, edges)
    return shown, f"only the {MOST_EDGES:,} strongest of them drawn"


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
