"""The static picture: the places of the page, as SVG, PNG or PDF; Graphviz' language to export."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

from graphs import style
from graphs.choose import strongest
from graphs.dot import DotPen, captioned, to_dot
from graphs.fold import folded
from graphs.pen import Pen
from graphs.picture import Wish, compose
from graphs.printed import printed
from graphs.svg import svg
from patching.sites import nearest
from tasks.atomic import write_atomically
from tasks.errors import FormatError, SiteError, all_faults, number_faults, unknown

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph
    from graphs.diff import CircuitDiff
    from graphs.sheet import Sheet

DRAWN = ("pdf", "png", "svg")
PICTURES = ("dot", *DRAWN)
MOST_EDGES, MOST_INCHES, MOST_DPI = 500, 100, 2400
DPI = 144


@dataclass(frozen=True, slots=True)
class Options:
    """How a picture is asked for; see :func:`draw`.

    Raises:
        FormatError: listing every option that cannot be used.
    """

    width: float | None = None
    caption: str | None = None
    font: str = ""
    highlight: str | Iterable[str] = ()
    dpi: int = DPI

    def __post_init__(self) -> None:
        faults = number_faults(("dpi", self.dpi, 1))
        if not faults and self.dpi > MOST_DPI:
            faults.append(f"dpi is {self.dpi}; give at most {MOST_DPI}")
        width = self.width
        if width is not None and not (isinstance(width, Real) and 1 <= width <= MOST_INCHES):
            faults.append(f"width is {width!r}; give inches, from 1 to {MOST_INCHES}")
        faults += [
            f"{name} is {given!r}; give text"
            for name, given in (("caption", self.caption), ("font", self.font))
            if not isinstance(given, str | None)
        ]
        if faults:
            raise FormatError(all_faults("this picture cannot be drawn:", faults))

    def lines(self, usual: list[str]) -> list[str]:
        """The lines above the key."""
        return usual if self.caption is None else self.caption.splitlines()

    def wish(self, graph: CircuitGraph) -> Wish:
        """What the picture needs to know.

        Raises:
            SiteError: listing what is to be highlighted and not in the circuit.
        """
        given = self.highlight
        names = [given] if isinstance(given, str) else [str(name) for name in given]
        known = [*graph.nodes, *graph.edges]
        faults = [
            f"'{name}' is not in this circuit{nearest(name, known)}"
            for name in dict.fromkeys(names)
            if name not in graph
        ]
        if faults:
            raise SiteError(all_faults("cannot highlight:", faults))
        return Wish(self.width, self.font or "", frozenset(names))


def draw(
    graph: CircuitGraph,
    path: str | Path,
    *,
    width: float | None = None,
    caption: str | None = None,
    font: str = "",
    highlight: str | Iterable[str] = (),
    dpi: int = DPI,
) -> None:
    """Write a picture in the format that the suffix of ``path`` names; replaces ``path``.

    ``width`` is in inches: the columns are set as narrow as it asks, and what then is still too
    wide is made smaller. ``caption`` stands above the key instead of what the circuit says of
    itself, ``""`` leaves it out. ``font`` is the name of a font. ``highlight`` names nodes and
    edges (a node stands for all its edges); the rest is drawn faintly. ``dpi`` is dots per inch,
    of PNG.

    Raises:
        FormatError: another suffix than .svg, .png, .pdf or .dot, or an option that cannot be used.
        SiteError: what is to be highlighted is not in the circuit.
    """
    options = Options(width, caption, font, highlight, dpi)
    write_atomically(path, picture(graph, _form(path), options))


def draw_diff(diff: CircuitDiff, path: str | Path, options: Options | None = None) -> None:
    """Write a picture of what changed; formats and errors are those of :func:`draw`."""
    write_atomically(path, diff_picture(diff, _form(path), options))


def picture(graph: CircuitGraph, form: str, options: Options | None = None) -> bytes:
    """The picture as bytes of the format ``svg``, ``png``, ``pdf`` or ``dot``.

    More than :data:`MOST_EDGES` edges are no picture any more: the strongest are drawn, and the
    legend says so.

    Raises:
        FormatError: an option that cannot be used.
        SiteError: what is to be highlighted is not in the circuit.
    """
    options = options or Options()
    if form == "dot":
        return to_dot(graph).encode()
    wish = options.wish(graph)
    shown, notes = _drawable(graph, wish)
    small, folds, note = folded(shown, wish.lit)
    notes += [note] if note else []
    lines = options.lines(style.caption(graph.info, "; ".join(notes)))
    return _rendered(compose(Pen(small), lines, wish, folds), form, options.dpi)


def diff_picture(diff: CircuitDiff, form: str, options: Options | None = None) -> bytes:
    """Both circuits in one picture: what only the right one has in blue, only the left in orange.

    Widths are those of ``right`` where it has a score, of ``left`` elsewhere.

    Raises:
        FormatError: an option that cannot be used.
        SiteError: what is to be highlighted is in neither circuit.
    """
    options = options or Options()
    both = diff.right.union(diff.left)
    wish = options.wish(both)
    shown, notes = _drawable(both, wish)
    signs = dict.fromkeys(diff.added, 1.0) | dict.fromkeys(diff.removed, -1.0)
    meaning = ((1.0, "only right"), (-1.0, "only left"), (0.0, "both"))
    sides = [f"{side}: {'; '.join(style.caption(graph.info))}" for side, graph in diff.sides]
    usual = [style.caption(shown.info)[0], diff.describe(), *sides, *notes]
    if form == "dot":
        return captioned(DotPen(shown, meaning, signs), options.lines(usual)).encode()
    sheet = compose(Pen(shown, meaning, signs), options.lines(usual), wish, {})
    return _rendered(sheet, form, options.dpi)


def to_svg(graph: CircuitGraph) -> str:
    """The picture as SVG text without scripts, links or outside references."""
    return picture(graph, "svg").decode()


def _form(path: str | Path) -> str:
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in PICTURES:
        raise FormatError(unknown("picture format", suffix, PICTURES))
    return suffix


def _rendered(sheet: Sheet, form: str, dpi: int) -> bytes:
    return svg(sheet).encode() if form == "svg" else printed(sheet, form, dpi)


def _drawable(graph: CircuitGraph, wish: Wish) -> tuple[CircuitGraph, list[str]]:
    """The circuit, or its strongest edges with a note that says so."""
    if len(graph.edges) <= MOST_EDGES:
        return graph, []
    shown = strongest(graph, MOST_EDGES)
    if faint := [name for name in wish.lit if name not in shown]:
        raise SiteError(
            f"cannot highlight '{faint[0]}': it is not among the {MOST_EDGES:,} strongest edges, "
            f"which are drawn; highlight it in a part of the circuit"
        )
    return shown, [f"only the {MOST_EDGES:,} strongest of them drawn"]
