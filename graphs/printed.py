"""A sheet as PNG or PDF, by matplotlib; text in a PDF is text, in a font that it carries."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

from graphs.sheet import Box, Curve, Mark, Sheet, Text
from graphs.style import DASHES, FONT, PAPER
from patching.sites import nearest
from tasks.errors import FormatError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LAST = ("Liberation Sans", "DejaVu Sans")
"""What stands in for the usual fonts; the last comes with matplotlib."""
_ANCHORS = {"start": "left", "middle": "center", "end": "right"}


def printed(sheet: Sheet, form: str, dpi: int) -> bytes:
    """The same sheet is the same file, whenever it is made.

    Raises:
        FormatError: no font of the name that is asked for.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fonts = families(sheet.font)
    width, height = (side * sheet.scale / 72 for side in sheet.size)
    figure = Figure(figsize=(width, height), facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes: Axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(sheet.left, sheet.right)
    axes.set_ylim(sheet.bottom, sheet.top)
    axes.set_axis_off()
    marks = [mark for part in sheet.parts for mark in part.marks]
    for order, mark in enumerate(marks):
        _add(axes, mark, sheet.scale, fonts, order)
    buffer = io.BytesIO()
    undated: dict[str, Any] = {"CreationDate": None} if form == "pdf" else {}
    with rc_context({"pdf.fonttype": 42}), warnings.catch_warnings():
        # A letter that no font has is drawn as an empty box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format=form, dpi=dpi, metadata=undated)
    return buffer.getvalue()


def families(font: str = "") -> list[str]:
    """The fonts to use, best first: the one asked for, then the usual ones that are installed.

    Raises:
        FormatError: no font of that name.
    """
    from matplotlib.font_manager import get_font_names

    known = set(get_font_names())
    if font and font not in known:
        raise FormatError(
            f"no font '{font}' is installed{nearest(font, sorted(known))}; SVG files may name any "
            f"font, PNG and PDF files need it"
        )
    usual = [name for name in (*FONT.split(","), *_LAST) if name in known]
    return [*([font] if font else []), *usual]


def _add(axes: Axes, mark: Mark, scale: float, fonts: list[str], order: int) -> None:
    if isinstance(mark, Box):
        _add_box(axes, mark, scale, order)
    elif isinstance(mark, Curve):
        _add_curve(axes, mark, scale, order)
    else:
        _add_text(axes, mark, scale, fonts, order)


def _add_box(axes: Axes, box: Box, scale: float, order: int) -> None:
    from matplotlib.patches import BoxStyle, FancyBboxPatch

    corner = (box.x - box.width / 2, box.y - box.height / 2)
    radius = min(box.radius, box.height / 2)
    style = (
        BoxStyle("Round", pad=0.0, rounding_size=radius) if radius else BoxStyle("Square", pad=0.0)
    )
    axes.add_artist(
        FancyBboxPatch(
            corner,
            box.width,
            box.height,
            boxstyle=style,
            facecolor=box.fill,
            edgecolor=box.stroke or "none",
            linewidth=0.8 * scale if box.stroke else 0.0,
            alpha=box.opacity,
            zorder=order,
        )
    )


def _add_curve(axes: Axes, curve: Curve, scale: float, order: int) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    codes = [Path.MOVETO, *[Path.CURVE4] * (len(curve.path) - 1)]
    # matplotlib counts dashes in widths of the line, this project in points.
    dashes = (0, tuple(part / curve.width for part in DASHES)) if curve.dashed else "solid"
    axes.add_artist(
        PathPatch(
            Path(curve.path, codes),
            fill=False,
            edgecolor=curve.colour,
            linewidth=curve.width * scale,
            linestyle=dashes,
            alpha=curve.opacity,
            capstyle="butt",
            zorder=order,
        )
    )


def _add_text(axes: Axes, text: Text, scale: float, fonts: list[str], order: int) -> None:
    axes.text(
        text.x,
        text.y,
        text.text,
        fontsize=text.size * scale,
        color=text.colour,
        ha=_ANCHORS[text.anchor],
        va="baseline",
        alpha=text.opacity,
        family=fonts,
        parse_math=False,
        zorder=order,
    )
