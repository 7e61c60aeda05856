"""The command `sweep`: many discoveries from one file, and their table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuits.cli.options import Device
from circuits.cli.output import AsJson, print_json
from tasks.errors import RunError, counted

Jobs = Annotated[
    int, typer.Option(help="Cells at a time, with --runner local; fewer if memory is short.")
]
Runner = Annotated[
    str,
    typer.Option(help="local: processes of this machine. slurm: a job for each cell (submitit)."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Only print a command line for each cell that is not done."),
]
One = Annotated[
    str | None, typer.Option("--cell", help="Carry out this cell alone, without the table.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("sweep")(command)


def command(
    file: Annotated[
        Path,
        typer.Argument(
            help="A TOML file with models, tasks, methods, seeds, and [options] of 'discover'."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="The folder of the cells' run folders and the table.")
    ] = Path("runs"),
    jobs: Jobs = 1,
    runner: Runner = "local",
    device: Device = None,
    dry_run: DryRun = False,
    cell: One = None,
    as_json: AsJson = False,
) -> None:
    """Find the circuits of all combinations of models, tasks, methods and seeds; join them.

    Complete cells are skipped, so the same command goes on after a kill or a failure.
    """
    from circuits.cli.printing import print_report, printable
    from circuits.cli.progress import shown_progress
    from circuits.sweeps import slurm
    from circuits.sweeps.grid import read_grid
    from circuits.sweeps.sweep import single, sweep, unfinished

    if cell is not None:
        single(file, out, cell)
        return
    if dry_run:
        grid = read_grid(file)
        for line in slurm.lines(grid, unfinished(grid, out), out, device):
            typer.echo(printable(line))
        return
    with shown_progress() as progress:
        table = sweep(file, out, jobs=jobs, runner=runner, device=device, progress=progress)  # type: ignore[arg-type]
    if as_json:
        print_json(table.to_json())
    else:
        print_report(table.report())
        typer.echo(f"written {printable(out)} (sweep.json, sweep.md, sweep.html)")
    if table.failed:
        raise RunError(
            f"{len(table.failed)} of {counted(len(table.rows), 'cell')} are not complete; the same "
            f"command tries them again"
        )
