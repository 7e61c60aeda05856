"""Tables of the commands `evaluate` and `compare`; names from files are shown as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from circuits.cli.text import print_table, printable

if TYPE_CHECKING:
    from circuits.evaluation.areas import Interval
    from circuits.evaluation.curves import Curve


def print_columns(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose first column is text and whose others are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for i, title in enumerate(titles):
        # No word of a title is cut, however narrow the terminal.
        least = max(map(len, title.split()), default=0)
        table.add_column(title, justify="right" if i else "left", overflow="fold", min_width=least)
    for row in rows:
        # What is in brackets goes below its number, where it is not broken in two.
        table.add_row(*(Text(printable(cell.replace(" (", "\n("))) for cell in row))
    print_table(table)


def print_curves(curves: Sequence[Curve], seed: int) -> None:
    """Areas of every curve with their intervals, then faithfulness at every size."""
    titles = ["ranking", "CPR", "CMD", "log CPR", "log CMD"]
    kinds = ("cpr", "cmd", "log_cpr", "log_cmd")
    rows = [
        [f"{c.name}, {c.ranking}", *(_area(c.area(k), c.interval(k, seed)) for k in kinds)]
        for c in curves
    ]
    print_columns(titles, rows)
    sizes = curves[0].sizes
    share = [
        [f"{c.name}, {c.ranking}", *(f"{value:.2f}" for value in c.faithfulness)] for c in curves
    ]
    print_columns(["faithfulness at", *(f"{100 * size:g} %" for size in sizes)], share)
    right = [[f"{c.name}, {c.ranking}", *(f"{v:.2f}" for v in c.preferred())] for c in curves]
    print_columns(["answer preferred at", *(f"{100 * size:g} %" for size in sizes)], right)


def _area(value: float | None, interval: Interval | None) -> str:
    if value is None or interval is None:
        return "undefined"
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
