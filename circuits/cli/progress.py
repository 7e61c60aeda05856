"""The progress bar of the command line: on the terminal's error stream, silent elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from circuits.clock import Progress as Tell


@contextmanager
def shown_progress() -> Iterator[Tell]:
    """A function (done, total, what) that draws one line per `what`; a total of 0 is unknown."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        lines: dict[str, TaskID] = {}

        def tell(done: int, total: int, what: str) -> None:
            for known, line in lines.items():
                if known != what:
                    _finish(bar, line)
            if what not in lines:
                lines[what] = bar.add_task(what, total=None)
            bar.update(lines[what], completed=done, total=total or None)

        yield tell
        for line in lines.values():
            _finish(bar, line)


def _finish(bar: Progress, line: TaskID) -> None:
    task = bar.tasks[line]
    total = task.total or 1
    bar.update(line, completed=total, total=total)
