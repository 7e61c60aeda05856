"""Cells carried out by a scheduler: one job each, through submitit (the extra ``cluster``)."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from circuits.sweeps.grid import Cell, Grid
from tasks.errors import CircuitsError, RunError

LOGS = "jobs"


def command(grid: Grid, cell: Cell, out: Path, device: str | None = None) -> list[str]:
    """The words that carry out one cell, on any machine that sees the same files."""
    words = [sys.executable, "-m", "circuits", "--quiet", "sweep", str(grid.path.resolve())]
    words += ["--out", str(out.resolve()), "--cell", cell.name]
    return words + ([] if device is None else ["--device", device])


def lines(grid: Grid, cells: Sequence[Cell], out: Path, device: str | None) -> Iterator[str]:
    """The same as lines for a shell, one a cell."""
    for cell in cells:
        yield shlex.join(command(grid, cell, out, device))


def check_installed() -> Any:
    """The package that knows the scheduler.

    Raises:
        RunError: it is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise RunError(
            "the runner slurm needs submitit; install circuits-engine[cluster], or hand the lines "
            "of --dry-run to your scheduler"
        ) from None
    return submitit


def carry_out(
    grid: Grid,
    cells: Sequence[Cell],
    out: Path,
    done: Any,
    device: str | None = None,
    cluster: str = "slurm",
) -> None:
    """Hand in a job for every cell, and wait for all of them.

    Their logs are in the folder ``jobs``. Jobs go on if this process ends; a rerun hands in what is
    not finished then.

    Raises:
        RunError: submitit is not installed, or the scheduler does not take the jobs.
    """
    submitit = check_installed()
    try:
        executor = submitit.AutoExecutor(folder=str(out / LOGS), cluster=cluster)
        executor.update_parameters(**_parameters(grid.slurm))
        tasks = [submitit.helpers.CommandFunction(command(grid, c, out, device)) for c in cells]
        with executor.batch():
            jobs = [executor.submit(task) for task in tasks]
    except CircuitsError:
        raise
    except Exception as error:
        raise RunError(f"the scheduler took no jobs: {error}") from None
    for cell, job in zip(cells, jobs, strict=True):
        done(cell, _fault(job))


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": "circuits"} | dict(given)


def _fault(job: Any) -> str:
    """Why a job failed; empty where it did not. It is waited for."""
    try:
        job.result()
    except Exception as error:
        said = ""
        with suppress(Exception):
            said = next(
                line.removeprefix("circuits: ")
                for line in reversed((job.stderr() or "").splitlines())
                if line.startswith("circuits: ")
            )
        return said or f"job {job.job_id}: {str(error).strip().splitlines()[-1]}"
    return ""
