"""A sweep from beginning to end: read, checked, carried out as far as it is not done, joined."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from circuits.output import guarded
from circuits.sweeps import cell as one_cell
from circuits.sweeps import local, slurm
from circuits.sweeps.grid import Cell, Grid, read_grid
from circuits.sweeps.table import SweepTable, joined
from patching import processes
from tasks.errors import CircuitsError, RunError, all_faults, unknown

if TYPE_CHECKING:
    from circuits.clock import Progress

Runner = Literal["local", "slurm"]
RUNNERS = ("local", "slurm")


def sweep(
    file: str | Path,
    out: str | Path = "runs",
    *,
    jobs: int = 1,
    runner: Runner = "local",
    device: str | None = None,
    progress: Progress | None = None,
) -> SweepTable:
    """Discover the circuit of every combination that a TOML file names, and join what was found.

    The file lists `models`, `tasks`, `methods` and `seeds`; its table `options` holds what else
    :func:`circuits.discover` takes (:mod:`circuits.sweeps.grid`). Every cell is a run folder in
    `out`. One that is complete is not done again, so a sweep that was killed goes on. A cell that
    fails has its reason in its row, and the others go on. `sweep.json`, `sweep.md` and `sweep.html`
    in `out` are the joined table.

    The runner `local` carries out `jobs` cells at a time, fewer where memory is short, each with
    one thread unless `OMP_NUM_THREADS` says otherwise; `slurm` hands in a job for every cell.
    `device` is where to compute. `progress` is called with (done, total, what), in cells.

    >>> text = 'models = ["nano"]\\ntasks = ["ioi"]\\nmethods = ["secant", "attribution"]\\n'
    >>> _ = Path("few.toml").write_text(text + "[options]\\nn = 4\\ntop = 20\\n")
    >>> circuits.sweep("few.toml", "runs/few").to_frame()["state"].tolist()
    ['done', 'done']

    Raises:
        FormatError: the file is not a sweep, or a cell cannot be carried out: before any is begun.
        RunError: a cell's folder holds something else, or another process writes there.
    """
    grid, place = read_grid(Path(file)), Path(out)
    check(jobs, runner)
    with guarded(place):
        todo = unfinished(grid, place)
        faults: dict[str, str] = {}
        ended = _counted(len(grid.cells) - len(todo), len(grid.cells), faults, progress)
        if todo and runner == "slurm":
            slurm.carry_out(grid, todo, place, ended, device)
        elif todo:
            local.carry_out(todo, place, grid.evaluate, ended, jobs, device)
        table = joined(grid.cells, place, faults)
        place.mkdir(parents=True, exist_ok=True)
        table.save(place)
    return table


def check(jobs: int, runner: str) -> None:
    """Refuse what no sweep can do.

    Raises:
        RunError: no job at a time, an unknown runner or one that is not installed, or a sweep that
            is itself one of several processes.
    """
    if runner not in RUNNERS:
        raise RunError(unknown("runner", runner, RUNNERS))
    if jobs < 1:
        raise RunError(f"jobs is {jobs}; give how many cells to carry out at a time, at least 1")
    if processes.count() > 1:
        raise RunError("a sweep starts its own processes; start it without torchrun")
    if runner == "slurm":
        slurm.check_installed()


def unfinished(grid: Grid, out: Path) -> list[Cell]:
    """The cells that are still to be done.

    Raises:
        RunError: folders hold something else; all of them are named.
    """
    todo, faults = [], []
    for cell in grid.cells:
        try:
            if not one_cell.is_done(cell.config, out / cell.name, grid.evaluate):
                todo.append(cell)
        except CircuitsError as error:
            faults.append(str(error))
    if faults:
        raise RunError(all_faults(f"nothing was begun of {grid.path}:", faults))
    return todo


def single(file: Path, out: Path, name: str) -> None:
    """Carry out one cell of a sweep in this process, as schedulers do.

    Raises:
        CircuitsError: there is no such cell, or it fails.
    """
    grid = read_grid(file)
    cell = grid.cell(name)
    one_cell.carry_out(cell.config, out / cell.name, grid.evaluate)


def _counted(
    done: int, total: int, faults: dict[str, str], progress: Progress | None
) -> Callable[[Cell, str], None]:
    """What counts cells that have ended, and keeps why they failed."""
    count = [done]
    if progress is not None:
        progress(done, total, "cells")

    def ended(cell: Cell, fault: str) -> None:
        count[0] += 1
        if fault:
            faults[cell.name] = fault
        if progress is not None:
            progress(count[0], total, "cells")

    return ended
