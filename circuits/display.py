"""How results show themselves in a notebook: tables and pictures, escaped, with nothing to load."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LEFT = " style='text-align:left'"
CAPTION = " style='text-align:left;white-space:nowrap'"
DIGITS = 3


def rows_text(rows: Mapping[str, str]) -> str:
    """Labels on the left, values on the right, in lines."""
    width = max(len(label) for label in rows)
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows.items())


def rows_html(rows: Mapping[str, str], caption: str = "") -> str:
    """Labels on the left, values on the right."""
    lines = [
        f"<tr><th{LEFT}>{escape(label)}</th><td{LEFT}>{escape(value)}</td></tr>"
        for label, value in rows.items()
    ]
    return _table(lines, caption)


def table_html(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = ["".join(f"<th>{escape(title)}</th>" for title in head)]
    for first, *others in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        lines.append(f"<td{LEFT}>{escape(first)}</td>{cells}")
    return _table([f"<tr>{line}</tr>" for line in lines], caption)


def frame_html(frame: pd.DataFrame, caption: str = "", most: int | None = None) -> str:
    """A data frame with its index; of a long one the first rows, and how many more there are."""
    shown = frame if most is None else frame.head(most)
    head = [str(frame.index.name or ""), *map(str, frame.columns)]
    rows = [[str(name), *map(_cell, values)] for name, *values in shown.itertuples(name=None)]
    rest = len(frame) - len(shown)
    more = f"<p>and {rest} more: to_frame() has all of them</p>" if rest else ""
    return table_html(head, rows, caption) + more


def picture_html(figure: Figure, told: str) -> str:
    """A picture as an image of its own, so that its parts cannot mix with another picture's.

    ``told`` is what is read out where it cannot be seen.
    """
    data = base64.b64encode(svg(figure).encode()).decode()
    style = "max-width:100%;background:white"
    return f'<img alt="{escape(told)}" style="{style}" src="data:image/svg+xml;base64,{data}">'


def svg(figure: Figure) -> str:
    """A figure as SVG text; without a date or random ids, so that equal figures give equal text."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "circuits", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _table(lines: Iterable[str], caption: str) -> str:
    title = f"<caption{CAPTION}>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}{''.join(lines)}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.{DIGITS}f}"
    return str(value)
