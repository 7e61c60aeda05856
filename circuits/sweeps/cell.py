"""One cell of a sweep: its run folder is complete or absent, so what is there is not done again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from circuits.config import Config
from circuits.folder import EVALUATION, finished
from circuits.output import guarded
from tasks.errors import RunError

PATIENCE = 10.0
"""Seconds in which a process of a sweep that was killed ends, and lets go of its run folder."""


def is_done(config: Config, folder: Path, evaluate: Mapping[str, Any] | None) -> bool:
    """Whether a cell's folder holds all that it is to hold.

    Raises:
        RunError: it holds something else.
    """
    if finished(folder, config) is None:
        return False
    return evaluate is None or (folder / EVALUATION).is_file()


def carry_out(config: Config, folder: Path, evaluate: Mapping[str, Any] | None) -> None:
    """Discover, and test on other prompts if that is asked for, as far as it is not done yet.

    Raises:
        CircuitsError: as for :func:`circuits.discover` and :func:`circuits.evaluate_run`.
    """
    from circuits.discover import run

    with _kept_place(folder):
        if finished(folder, config) is None:
            run(config, folder)
    if evaluate is not None and not (folder / EVALUATION).is_file():
        from circuits.held_out.by_folder import evaluate_run

        evaluate_run(folder, **evaluate)


@contextmanager
def _kept_place(folder: Path) -> Iterator[None]:
    """The folder for this process, as soon as a process that was killed has let go of it."""
    until = time.monotonic() + PATIENCE
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(guarded(folder))
                break
            except RunError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
        yield
