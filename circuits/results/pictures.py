"""Pictures of results: equal results give equal files, whatever the text in them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.atomic import write_atomically
from tasks.errors import FormatError, unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from circuits.results.intervals import Ends

FORMATS = ("pdf", "png", "svg")
# Okabe and Ito's colours, which those who do not tell red from green can distinguish.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5c5c5c")


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that no window will show."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn


def literal(text: str) -> str:
    """Text in which nothing is taken for a formula."""
    return text.replace("$", r"\$")


def whiskers(values: Sequence[float], intervals: Sequence[Ends | None]) -> list[list[float]]:
    """How far each interval reaches below and above its value; not at all where there is none."""
    ends = [each or (value, value) for value, each in zip(values, intervals, strict=True)]
    below = [max(value - low, 0.0) for value, (low, _) in zip(values, ends, strict=True)]
    above = [max(high - value, 0.0) for value, (_, high) in zip(values, ends, strict=True)]
    return [below, above]


def save(drawn: Figure, path: str | Path) -> None:
    """Write a figure as .svg, .png or .pdf; it is there whole or not at all.

    Raises:
        FormatError: another suffix.
    """
    form = Path(path).suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise FormatError(unknown("picture format", form, FORMATS))
    write_atomically(path, rendered(drawn, form))


def rendered(drawn: Figure, form: str = "svg") -> bytes:
    """A figure as a file's bytes; without a date or random ids, so that equal figures are equal."""
    from matplotlib import rc_context

    undated = {"svg": {"Date": None}, "png": {}, "pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "circuits", "svg.fonttype": "none"}):
        drawn.savefig(
            buffer, format=form, dpi=144 if form == "png" else "figure", metadata=undated[form]
        )
    return buffer.getvalue()
