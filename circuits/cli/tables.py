"""Tables of the commands `evaluate` and `compare`; names from files are shown as plain text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from circuits.cli.text import print_table, printable
from circuits.results.intervals import spelled

if TYPE_CHECKING:
    from circuits.evaluation.curves import Curve

LEAST_WIDTH = 80
BELOW = re.compile(r" (?=[(\[])")


def print_columns(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose first column is text and whose others are numbers."""
    # What is in brackets goes below its number, where it is less often broken in two.
    cells = [[printable(BELOW.sub("\n", cell)) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for i, title in enumerate(titles):
        longest = max((len(line) for row in cells for line in row[i].split("\n")), default=0)
        table.add_column(
            title,
            justify="right" if i else "left",
            overflow="fold",
            # Room is taken from the columns that have some, so that no word or number is cut.
            no_wrap=i > 0 and longest <= len(title),
            min_width=max(map(len, title.split()), default=0),
        )
    for row in cells:
        table.add_row(*map(Text, row))
    print_table(table, least=LEAST_WIDTH)


def print_curves(curves: Sequence[Curve], seed: int) -> None:
    """Areas of every curve with their intervals, then faithfulness at every size."""
    titles = ["ranking", "CPR", "CMD", "log CPR", "log CMD"]
    kinds = ("cpr", "cmd", "log_cpr", "log_cmd")
    rows = [[f"{c.name}, {c.ranking}", *(_area(c, kind, seed) for kind in kinds)] for c in curves]
    print_columns(titles, rows)
    sizes = curves[0].sizes
    share = [
        [f"{c.name}, {c.ranking}", *(f"{value:.2f}" for value in c.faithfulness)] for c in curves
    ]
    print_columns(["faithfulness at", *(f"{100 * size:g} %" for size in sizes)], share)
    right = [[f"{c.name}, {c.ranking}", *(f"{v:.2f}" for v in c.preferred())] for c in curves]
    print_columns(["answer preferred at", *(f"{100 * size:g} %" for size in sizes)], right)


def _area(curve: Curve, kind: str, seed: int) -> str:
    value = curve.area(kind)
    return "undefined" if value is None else spelled(value, curve.interval(kind, seed))
