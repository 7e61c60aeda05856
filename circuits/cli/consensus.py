"""The command `consensus`: what several runs agree on, tested on prompts of none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuits import __version__
from circuits.cli.evaluate import AllowOther, Count, MeansFile, Outside, Prompts, Seed
from circuits.cli.options import BatchSize, Device, SkipBad
from circuits.cli.output import AsJson, print_json


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("consensus")(consensus)


def consensus(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of one model and task.")],
    share: Annotated[
        float, typer.Option(help="Keep an edge that at least this share of the runs hold.")
    ] = 0.5,
    model: Annotated[
        str | None, typer.Option(help="Where to find their model. Default: the first run's own.")
    ] = None,
    n: Count = 64,
    seed: Seed = 0,
    prompts: Prompts = None,
    allow_other_model: AllowOther = False,
    ablation: Outside = None,
    means: MeansFile = None,
    batch_size: BatchSize = 64,
    skip_bad: SkipBad = False,
    _device: Device = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for consensus.json, circuit.json and circuit.svg."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a consensus that is in the folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find the edges that runs agree on, and test their circuit against ones of equal size."""
    from circuits.cli.printing import print_report
    from circuits.cli.progress import shown_progress
    from circuits.held_out.consensus import OUTPUT
    from circuits.held_out.consensus import consensus as agree
    from circuits.held_out.terms import Terms
    from patching.journal import kept

    terms = Terms(n, seed, prompts, allow_other_model, ablation, means, 0, batch_size, skip_bad)
    with OUTPUT.reserved(out, force):
        about = __version__, "consensus", terms, runs, share
        with kept(out, *about) as journal, shown_progress() as progress:
            agreed = agree(runs, terms, share, progress, model, journal)
            written = agreed.write(out) if out is not None else []
        if as_json:
            print_json(agreed.to_json())
            return
        print_report(agreed.report())
        for path in written:
            typer.echo(f"written {path}")
