"""What the command line prints: lists of what there is, and the summary of a run.

Names and texts may come from files, so everything is printed as plain text, never as markup.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from circuits.record import RunRecord

Row = Mapping[str, Any]


def task_rows() -> list[Row]:
    """Every task with its claim."""
    import tasks

    found = [(name, tasks.get(name)) for name in tasks.names()]
    return [
        {"task": name, "asks": task.claim, "metric": task.metric, "reference": task.reference}
        for name, task in found
    ]


def method_rows() -> list[Row]:
    """Every method with its claim, its cost and how far it is trusted."""
    from patching.methods import METHODS

    return [
        {
            "method": method.name,
            "computes": method.claim,
            "cost": method.cost,
            "levels": ", ".join(method.levels),
            "trust": method.tier,
        }
        for method in METHODS.values()
    ]


def model_rows() -> list[Row]:
    """The embedded models, and the other ways to name one."""
    from circuits.models import EMBEDDED

    embedded: list[Row] = [
        {
            "model": model.name,
            "is": model.claim,
            "costs": f"ships with circuits, {model.megabytes:.1f} MB, no network",
        }
        for model in EMBEDDED.values()
    ]
    return [
        *embedded,
        {
            "model": "ID",
            "is": "a causal language model on the Hugging Face hub, such as gpt2",
            "costs": "a download, unless it is in the cache",
        },
        {
            "model": "DIRECTORY",
            "is": "a folder with config.json and model.safetensors",
            "costs": "no network",
        },
    ]


def print_list(rows: list[Row], as_json: bool) -> None:
    """One row per thing, as a table or as a JSON array of objects."""
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, column in enumerate(rows[0] if rows else ()):
        table.add_column(column, no_wrap=index == 0)
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row.values()))
    Console().print(table)


def print_summary(record: RunRecord, folder: Path, files: Iterable[str], note: str = "") -> None:
    """What a run found, and where it is."""
    found = record.circuit
    rows = {
        "task": f"{record.prompts.task}, {record.prompts.n} prompt pairs",
        "model": record.model.name,
        "method": f"{record.config['method']}, {record.config['direction']}",
        **_measured(record),
        "circuit": f"{found.nodes} nodes, {found.edges} edges ({found.selection})",
        "time": ", ".join(f"{step} {value:.1f} s" for step, value in record.seconds.items()),
        "written": ", ".join(str(folder / name) for name in files),
    }
    print_rows(rows)
    print_scores("strongest", [(item.name, item.score) for item in found.strongest])
    if note:
        typer.echo(note)


def _measured(record: RunRecord) -> dict[str, str]:
    from circuits.evaluate import verdict

    seen = record.evaluation
    return {
        seen.metric: (
            f"clean {seen.full:+.3f}, corrupted {seen.empty:+.3f}, circuit {seen.circuit:+.3f}"
        ),
        "faithfulness": verdict(seen.faithfulness, seen.interval),
    }


def print_rows(rows: Mapping[str, str]) -> None:
    """Labels on the left, values on the right."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for label, value in rows.items():
        table.add_row(Text(label), Text(value))
    Console().print(table)


def print_scores(title: str, scores: Iterable[tuple[str, float]]) -> None:
    """Names with their scores, in the order given."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(title, no_wrap=True)
    table.add_column("score", justify="right")
    for name, score in scores:
        table.add_row(Text(name), Text(f"{score:+.4f}"))
    Console().print(table)
