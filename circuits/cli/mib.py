"""The command `mib`: the circuit track of the MIB benchmark on the user's own model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuits import __version__
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
    from circuits.models import load_model, locate, name_of
    from circuits.studies.mib.cells import cells
    from circuits.studies.mib.result import OUTPUT
    from circuits.studies.mib.track import METHODS, Terms, carry_out
    from graphs import CircuitGraph
    from patching.journal import kept

    tasks = cells(task or (), _named(file, "--file arc_easy=FILE"))
    known = _named(reference, "--reference ioi=circuit.json")
    terms = Terms(
        tuple(method or METHODS), n, test, seed, least, batch_size, skip_bad, known or None
    )
    terms.check(tasks, model)
    graphs = {name: CircuitGraph.load(path) for name, path in known.items()}
    with OUTPUT.reserved(out, force):
        locate(model)
        about = __version__, "mib", terms, [cell.task for cell in tasks], model
        with kept(out, *about) as journal, shown_progress() as progress:
            progress(0, 0, "opening the model")
            opened = load_model(model)
            track = carry_out(opened, tasks, terms, graphs, progress, journal, name_of(opened.path))
            written = track.write(out) if out is not None else []
    if as_json:
        print_json(track.to_json())
        return
    print_report(track.report())
    for path in written:
        typer.echo(f"written {path}")


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
