"""What the command line prints of results. Names and texts may come from files: never as markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

if TYPE_CHECKING:
    from circuits.results.report import Report
    from circuits.results.tables import Table

LEAST_WIDTH = 80
BELOW = re.compile(r" (?=[(\[])")


def printable(value: object) -> str:
    """The text with control characters spelled out, so that a file cannot steer the terminal."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in str(value)
    )


def cell(value: object, style: str = "") -> Text:
    """The content of a cell, as it is."""
    return Text(printable(value), style=style)


def grid(header: bool = True, gap: int = 2) -> Grid:
    """A table without lines."""
    padding = (0, gap, 0, 0)
    return Grid(box=None, pad_edge=False, show_header=header, header_style="bold", padding=padding)


def print_grid(drawn: Grid, least: int = 0) -> None:
    """The table without the blanks that pad its lines, which a file or a pipe has no use for.

    On a narrower terminal than ``least`` its lines are left to the terminal to break.
    """
    console = Console()
    console.width = max(console.width, least)
    with console.capture() as captured:
        console.print(drawn)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def print_report(report: Report) -> None:
    """Everything of a report but its pictures."""
    from circuits.results.tables import Rows, Table

    for block in report.blocks:
        if isinstance(block, Rows):
            print_rows(block.values)
        elif isinstance(block, Table):
            print_table(block)
        elif isinstance(block, str):
            typer.echo(printable(block))


def print_rows(rows: Mapping[str, str]) -> None:
    """Labels on the left, values on the right."""
    drawn = grid(header=False)
    drawn.add_column(no_wrap=True, style="bold")
    drawn.add_column(overflow="fold")
    for label, value in rows.items():
        drawn.add_row(cell(label), cell(value))
    print_grid(drawn)


def print_table(table: Table) -> None:
    """A table whose first column is text and whose others are numbers."""
    # What is in brackets goes below its number, where it is less often broken in two.
    cells = [[BELOW.sub("\n", each) for each in row] for row in table.rows]
    drawn = grid()
    for i, title in enumerate(table.head):
        longest = max((len(line) for row in cells for line in row[i].split("\n")), default=0)
        drawn.add_column(
            title,
            justify="right" if i else "left",
            overflow="fold",
            # Room is taken from the columns that have some, so that no word or number is cut.
            no_wrap=i > 0 and longest <= len(title),
            min_width=max(map(len, title.split()), default=0),
        )
    for row in cells:
        drawn.add_row(*map(cell, row))
    print_grid(drawn, least=LEAST_WIDTH)


def print_scores(title: str, scores: Iterable[tuple[str, float]]) -> None:
    """Names with their scores, in the order given."""
    drawn = grid()
    drawn.add_column(title, no_wrap=True)
    drawn.add_column("score", justify="right")
    for name, score in scores:
        drawn.add_row(cell(name), cell(f"{score:+.4f}"))
    print_grid(drawn)
