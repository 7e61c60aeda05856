"""What the command line prints: lists of what there is, and the summary of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from circuits.cli.printing import cell, grid, print_grid, print_rows, print_scores
from circuits.lists import Row

if TYPE_CHECKING:
    from circuits.results.record import RunRecord


def _option(name: str, option: Row) -> str:
    """An option with its default, what it means, and what it may be if that is not said there."""
    choices = [str(choice) for choice in option.get("choices", ())]
    listed = f" ({', '.join(choices)})" if any(c not in option["help"] for c in choices) else ""
    return f"{name}={_plain(option['default'])}: {option['help']}{listed}"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def print_list(rows: list[Row], as_json: bool) -> None:
    """Every row with its name, its claim, and the rest below; or a JSON array of objects."""
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = grid(header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, claim, *rest in (row.items() for row in rows):
        table.add_row(cell(name[1]), cell(claim[1]))
        for label, value in rest:
            if label == "reference":
                continue
            lines = [f"{label}: {value}"]
            if label == "options":
                lines = [_option(option, about) for option, about in value.items()]
            for line in lines:
                table.add_row("", cell(line, style="dim"))
    print_grid(table)


def print_summary(record: RunRecord, folder: Path, files: Iterable[str], note: str = "") -> None:
    """What a run found, and where it is."""
    from circuits.summary import summary_rows

    circuit = record.circuit
    print_rows(summary_rows(record, folder, files))
    if circuit.strongest:
        print_scores("strongest", [(item.name, item.score) for item in circuit.strongest])
    else:
        typer.echo(
            "Nothing is left: no path from the input to the logits is among what was chosen. Keep "
            "more (--top), or only what connects (--select top, or greedy)."
        )
    if note:
        typer.echo(note)
