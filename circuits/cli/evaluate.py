"""The commands `evaluate` and `compare`: circuits on prompts that they were not found on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from circuits import __version__
from circuits.cli.options import BatchSize, Device, SkipBad
from circuits.cli.output import AsJson, print_json
from tasks.errors import RunError

if TYPE_CHECKING:
    from circuits.results.tables import Table

Prompts = Annotated[
    Path | None,
    typer.Option(help="A file of other prompt pairs. Default: the task's own."),
]
AllowOther = Annotated[
    bool,
    typer.Option("--allow-other-model", help="Accept other weights of the same shape."),
]
Count = Annotated[int, typer.Option("--n", help="Number of held-out prompt pairs.")]
Seed = Annotated[int, typer.Option(help="Random seed for prompts, resamples and random circuits.")]
Outside = Annotated[
    str | None,
    typer.Option(
        "--ablation",
        help="What replaces everything outside: 'circuits ablations'. Default: the run's.",
    ),
]
MeansFile = Annotated[
    Path | None,
    typer.Option(
        "--means", help="A file made by 'circuits means'. Default: means of the held-out prompts."
    ),
]
Rediscovery = Annotated[
    int,
    typer.Option(help="How often to discover again, on resamples of the discovery's prompts."),
]
NewFolder = Annotated[
    Path | None,
    typer.Option(help="A new folder for evaluation.json and curves.svg. Default: the run's."),
]


def register(app: typer.Typer) -> None:
    """Add both commands to the application."""
    app.command("evaluate")(evaluate)
    app.command("compare")(compare)


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder, or a circuit's file.")],
    model: Annotated[
        str | None, typer.Option(help="The model to test on. Default: the run's own.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task to test a circuit's file on.")] = None,
    n: Count = 64,
    seed: Seed = 0,
    prompts: Prompts = None,
    reference: Annotated[
        Path | None, typer.Option(help="A circuit's file, or a run, to compare this one with.")
    ] = None,
    allow_other_model: AllowOther = False,
    ablation: Outside = None,
    means: MeansFile = None,
    rediscoveries: Rediscovery = 0,
    batch_size: BatchSize = 64,
    skip_bad: SkipBad = False,
    _device: Device = None,
    out: NewFolder = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an evaluation that is there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Test a run's circuit on held-out prompts; adds evaluation.json and curves.svg to the run.

    For a circuit's file (also of EAP-IG and MIB), print the faithfulness alone.
    """
    from circuits.cli.printing import print_report, print_rows, print_table
    from circuits.cli.progress import shown_progress
    from circuits.evaluation.plot_curves import curve_tables
    from circuits.held_out.of_file import evaluate_file
    from circuits.held_out.run import carry_out
    from circuits.held_out.terms import Terms

    terms = Terms(
        n, seed, prompts, allow_other_model, ablation, means, rediscoveries, batch_size, skip_bad
    )
    _prepare()
    if run.is_file():
        if reference is not None:
            raise RunError(f"{run} is a circuit's file; 'circuits diff' compares two of them")
        with shown_progress() as progress:
            alone = evaluate_file(run, terms, model, task, progress)
        if as_json:
            print_json(alone.to_json())
        else:
            print_report(alone.report())
        return
    if task is not None:
        raise RunError("--task is for a circuit's file; a run is tested on its own task")
    with shown_progress() as progress:
        tested = carry_out(
            run, terms, model=model, reference=reference, progress=progress, out=out, force=force
        )
    if as_json:
        print_json(tested.to_json())
        return
    print_rows(tested.rows() | {"written": ", ".join(str(path) for path in tested.written)})
    for table in curve_tables(tested.curves, seed):
        print_table(table)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders. The others are compared with the first.")
    ],
    model: Annotated[
        str | None, typer.Option(help="The model to test on. Default: the first run's own.")
    ] = None,
    n: Count = 64,
    seed: Seed = 0,
    prompts: Prompts = None,
    allow_other_model: AllowOther = False,
    ablation: Outside = None,
    means: MeansFile = None,
    rediscoveries: Rediscovery = 0,
    by: Annotated[
        str | None,
        typer.Option(help="Faithfulness by template, length, or another column of the prompts."),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(help="Run the circuits on these tasks, with commas between."),
    ] = None,
    batch_size: BatchSize = 64,
    skip_bad: SkipBad = False,
    _device: Device = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder for comparison.json and curves.svg.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a comparison that is in the folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare runs on the same prompts, which no run was found on."""
    from circuits.cli.progress import shown_progress
    from circuits.evaluation.plot_curves import curve_tables
    from circuits.held_out.comparison import OUTPUT, REPORT, compare_runs
    from circuits.held_out.terms import Terms
    from circuits.held_out.transfer import transfer
    from patching.journal import kept

    terms = Terms(
        n, seed, prompts, allow_other_model, ablation, means, rediscoveries, batch_size, skip_bad
    )
    with OUTPUT.reserved(out, force):
        _prepare()
        about = __version__, terms, runs, on
        with kept(out, *about) as journal, shown_progress() as progress:
            found: Any
            if on is not None:
                found = transfer(runs, _tasks(on, by), terms, progress, model, journal)
                written = found.write(out, OUTPUT, REPORT) if out is not None else []
                tables = [found.table()]
            else:
                found = compare_runs(runs, terms, progress, model, journal, by)
                written = found.write(out) if out is not None else []
                tables = found.tables() + curve_tables(found.curves, seed)
        _present(found, tables, written, as_json)


def _present(found: Any, tables: Sequence[Table], written: Sequence[Path], as_json: bool) -> None:
    """Print what was found, and where it is."""
    from circuits.cli.printing import print_table

    if as_json:
        print_json(found.to_json())
        return
    for table in tables:
        print_table(table)
    for path in written:
        typer.echo(f"written {path}")


def _tasks(on: str, by: str | None) -> list[str]:
    """The tasks that are named, each once."""
    if by is not None:
        raise RunError("--by tells the prompts of one task apart, and --on names tasks; choose one")
    named = [task.strip() for task in on.split(",") if task.strip()]
    if not named or len(set(named)) < len(named):
        raise RunError(f"--on '{on}': name each task once, with commas between, as in ioi,sva")
    return named


def _prepare() -> None:
    """Keep the bar that transformers draws while it reads weights out of ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()
