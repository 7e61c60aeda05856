"""What is left, on the terminal's error stream: a bar per step, or a line now and then.

On a terminal every step is a bar that counts, with the time gone and the time left. Where the error
stream is a file or a pipe, the step in progress is a line of text every 30 seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text
from typing_extensions import override

from circuits.cli.output import quiet, verbose
from circuits.clock import Progress as Tell

EVERY = 30.0
"""Seconds between two lines where there is no terminal."""


@contextmanager
def shown_progress(*, whole: bool = False) -> Iterator[Tell]:
    """A function (done, total, what) that shows one step per `what`; a total of 0 is unknown.

    What follows a colon in `what`, such as a loss, may change within a step.
    With `whole` it shows a single bar, whose name alone changes: the share done of all steps.
    """
    if quiet():
        yield _unseen
        return
    console = Console(stderr=True)
    if verbose():
        yield _named(console)
        return
    shown = _bars(console, whole) if console.is_terminal else _lines(console, EVERY, whole=whole)
    with shown as tell:
        yield tell


def _unseen(done: int, total: int, what: str) -> None:
    """Shows nothing."""


def _named(console: Console) -> Tell:
    """Every step is a line when it begins."""
    begun: list[str] = []

    def tell(done: int, total: int, what: str) -> None:
        if done == 0 or what not in begun[-1:]:
            begun.append(what)
            size = f" ({total})" if total else ""
            console.print(f"{what}{size}", markup=False, highlight=False, soft_wrap=True)

    return tell


def time_left(done: float, total: float | None, seconds: float) -> float | None:
    """Seconds that the rest takes at the pace so far; None where that is not known yet."""
    if not total or done <= 0 or done > total:
        return None
    return seconds * (total - done) / done


def told_time(seconds: float) -> str:
    """Seconds as a clock shows them: 0:07, 12:40, 1:02:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Left(ProgressColumn):
    """The time left of a step that is not finished."""

    max_refresh = 0.5

    @override
    def render(self, task: Task) -> Text:
        left = None if task.finished else time_left(task.completed, task.total, task.elapsed or 0)
        return Text("" if left is None else f"{told_time(left)} left", style="progress.remaining")


@contextmanager
def _bars(console: Console, whole: bool = False) -> Iterator[Tell]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TaskProgressColumn() if whole else MofNCompleteColumn(),
        TimeElapsedColumn(),
        _Left(),
    )
    with Progress(*columns, console=console) as bar:
        lines: dict[str, TaskID] = {}

        def tell(done: int, total: int, told: str) -> None:
            what = told if whole else told.partition(": ")[0]
            if whole and lines:
                ((name, line),) = lines.items()
                lines[what] = lines.pop(name)
                bar.update(line, description=what)
            if what in lines and done < bar.tasks[lines[what]].completed:
                # The same kind of work begins again, and is counted from nothing.
                _finish(bar, lines.pop(what))
            for known, line in lines.items():
                if known != what:
                    _finish(bar, line)
            if what not in lines:
                lines[what] = bar.add_task(what, total=None)
            bar.update(lines[what], completed=done, total=total or None, description=told)

        yield tell
        for line in lines.values():
            _finish(bar, line)


def _finish(bar: Progress, line: TaskID) -> None:
    task = bar.tasks[line]
    total = task.total or 1
    bar.update(line, completed=total, total=total)


@dataclass
class _Step:
    """The step in progress, and when it began."""

    what: str
    done: int
    total: int
    began: float
    whole: bool = False

    def line(self, now: float) -> str:
        """What is said of it."""
        gone = now - self.began
        left = time_left(self.done, self.total, gone)
        counted = f": {self.done} of {self.total}" if self.total else ""
        if self.whole and self.total:
            counted = f": {self.done / self.total:.0%} of the whole"
        rest = "" if left is None else f", about {told_time(left)} left"
        return f"{self.what}{counted}, {told_time(gone)} so far{rest}"


@contextmanager
def _lines(
    console: Console,
    every: float,
    clock: Callable[[], float] = time.monotonic,
    whole: bool = False,
) -> Iterator[Tell]:
    """Lines from a thread of its own, so that a step which counts nothing is told of too."""
    steps: list[_Step] = []
    ended = threading.Event()

    def tell(done: int, total: int, what: str) -> None:
        last = steps[-1] if steps else None
        other = last is None or last.what.partition(": ")[0] != what.partition(": ")[0]
        if last is None or (not whole and (other or done < last.done)):
            steps.append(_Step(what, done, total, clock(), whole))
        else:
            last.what, last.done, last.total = what, done, total

    def say() -> None:
        while not ended.wait(every):
            if steps:
                console.print(
                    steps[-1].line(clock()), markup=False, highlight=False, soft_wrap=True
                )

    speaker = threading.Thread(target=say, daemon=True)
    speaker.start()
    try:
        yield tell
    finally:
        ended.set()
        speaker.join()
