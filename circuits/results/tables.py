"""Tables of results: as plain text, as Markdown, and as HTML with nothing to load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

LEFT = " style='text-align:left'"
CAPTION = " style='text-align:left;white-space:nowrap'"
DIGITS = 3
MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>|#"} | {"\n": " "})


def harmless(text: object) -> str:
    """Text from a model or a file, in which Markdown sees no marks."""
    return str(text).translate(MARKS)


@dataclass(frozen=True)
class Rows:
    """Labels, each with what it says."""

    values: Mapping[str, str]

    def text(self) -> str:
        """Labels on the left, values on the right, in lines."""
        width = max(map(len, self.values), default=0)
        return "\n".join(f"{label:<{width}}  {value}" for label, value in self.values.items())

    def markdown(self) -> str:
        """A table without titles."""
        return Table(["", ""], list(self.values.items())).markdown()

    def html(self) -> str:
        """Labels on the left, values on the right."""
        cells = (
            f"<th{LEFT}>{escape(k)}</th><td{LEFT}>{escape(v)}</td>" for k, v in self.values.items()
        )
        return _html(cells, "")


@dataclass(frozen=True)
class Table:
    """Columns under their titles: text in the first, numbers in the others."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    more: str = ""

    @classmethod
    def of(cls, frame: pd.DataFrame, caption: str = "", most: int | None = None) -> Table:
        """A data frame with its index; of a long one the first rows, and how many more it has."""
        shown = frame if most is None else frame.head(most)
        head = [str(frame.index.name or ""), *map(str, frame.columns)]
        rows = [[str(name), *map(_cell, values)] for name, *values in shown.itertuples(name=None)]
        rest = len(frame) - len(shown)
        return cls(head, rows, caption, f"and {rest} more: to_frame() has all of them" * bool(rest))

    def text(self) -> str:
        """Columns in lines, as wide as their longest cell."""
        cells = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        form = "  ".join(f"{{:<{width}}}" for width in widths)
        lines = [self.caption, *(form.format(*row).rstrip() for row in cells), self.more]
        return "\n".join(filter(None, lines))

    def markdown(self) -> str:
        """The lines of a Markdown table; cells stand as they are."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def html(self) -> str:
        """Titles above; the first column on the left."""
        lines = ["".join(f"<th>{escape(title)}</th>" for title in self.head)]
        for first, *others in self.rows:
            cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
            lines.append(f"<td{LEFT}>{escape(first)}</td>{cells}")
        return _html(lines, self.caption) + (f"<p>{escape(self.more)}</p>" if self.more else "")


def _html(lines: Iterable[str], caption: str) -> str:
    title = f"<caption{CAPTION}>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.{DIGITS}f}"
    return str(value)
