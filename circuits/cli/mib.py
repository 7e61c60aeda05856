"""The command `mib`: the circuit track of the MIB benchmark on the user's own model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuits.cli.options import BatchSize, Device, Model, SkipBad
from circuits.cli.output import AsJson, print_json
from tasks.errors import MethodError

Tasks = Annotated[
    list[str] | None,
    typer.Option(
        help="A task of the track: ioi, mcqa, arithmetic_addition, arithmetic_subtraction, "
        "arc_easy, arc_challenge. May be repeated. Default: all that need no file."
    ),
]
Files = Annotated[
    list[str] | None,
    typer.Option(help="Questions of arc_easy or arc_challenge, as in arc_easy=FILE."),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        help="A method, such as ig:steps=5. May be repeated. "
        "Default: attribution, ig, relevance, secant."
    ),
]
Scored = Annotated[int, typer.Option("--n", help="Prompts of each task to score edges on.")]
Measured = Annotated[int, typer.Option(help="Other prompts to measure circuits on.")]
Seed = Annotated[int, typer.Option(help="Random seed for prompts and intervals.")]
Least = Annotated[
    float,
    typer.Option(help="Leave out tasks that the model answers on a smaller share of prompts."),
]
References = Annotated[
    list[str] | None,
    typer.Option(help="A known circuit, as in ioi=circuit.json: adds the AUROC."),
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("mib")(mib)


def mib(
    model: Model = "nano",
    _device: Device = None,
    task: Tasks = None,
    file: Files = None,
    method: Methods = None,
    n: Scored = 100,
    test: Measured = 100,
    seed: Seed = 0,
    least: Least = 0.75,
    reference: References = None,
    batch_size: BatchSize = 32,
    skip_bad: SkipBad = False,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for mib.json, mib.csv and the benchmark's files."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the results that are in the folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the circuit track of the MIB benchmark on your model."""
    from circuits.cli.printing import print_report
    from circuits.cli.progress import shown_progress
    from circuits.studies.mib.result import files_of
    from circuits.studies.mib.track import METHODS
    from circuits.studies.mib.track import mib as run_track

    files = _named(file, "--file arc_easy=FILE")
    references = _named(reference, "--reference ioi=circuit.json")
    with shown_progress() as progress:
        track = run_track(
            model,
            tasks=task or (),
            files=files,
            methods=method or METHODS,
            n=n,
            test=test,
            seed=seed,
            least=least,
            batch_size=batch_size,
            skip_bad=skip_bad,
            references=references,
            out=out,
            force=force,
            progress=progress,
        )
    if as_json:
        print_json(track.to_json())
        return
    print_report(track.report())
    if out is not None:
        for name in files_of(track.methods):
            typer.echo(f"written {out / name}")


def _named(given: list[str] | None, example: str) -> dict[str, Path]:
    """NAME=PATH texts.

    Raises:
        MethodError: one has no name, or a name comes twice.
    """
    parts: dict[str, Path] = {}
    for text in given or ():
        name, equals, path = text.partition("=")
        if not (name and equals and path) or name in parts:
            raise MethodError(f"'{text}' cannot be read; write each task once, as in {example}")
        parts[name] = Path(path)
    return parts
