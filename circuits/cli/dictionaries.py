"""The commands `train-dictionary`, `check-dictionary`, `latents` and `latent`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuits.cli.options import BatchSize, Device, Metric, Model
from circuits.cli.output import AsJson, print_json
from circuits.cli.printing import print_report, print_table
from circuits.dictionaries.quality import WORDED
from circuits.dictionaries.text import TASKS

Dictionaries = Annotated[
    list[str],
    typer.Option(
        "--dictionary",
        help="A dictionary: PATH, or SITE=PATH where its files do not say of which site it is. "
        "May be repeated.",
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force-dictionary", help="Use a dictionary that explains less than half of the variance."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("train-dictionary")(train_dictionary)
    app.command("check-dictionary")(check_dictionary)
    app.command("latents")(latents)
    app.command("latent")(latent)


def train_dictionary(
    model: Model = "nano",
    site: Annotated[
        str, typer.Option(help="What to take apart: resid_post.1, mlp_out.0, m2 (transcoders).")
    ] = "resid_post.1",
    kind: Annotated[str, typer.Option(help="sae, transcoder or skip-transcoder.")] = "sae",
    latents: Annotated[int, typer.Option(help="How many directions it has.")] = 1024,
    k: Annotated[int, typer.Option("--k", help="How many of them each token has.")] = 16,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 5000,
    batch: Annotated[int, typer.Option(help="Tokens per step.")] = 1024,
    rate: Annotated[
        float, typer.Option(help="Learning rate; 3e-4 for widths of 500 and more.")
    ] = 1e-3,
    text: Annotated[
        str,
        typer.Option(help="tasks, model (what it writes itself), or a text file, one text a line."),
    ] = TASKS,
    tokens: Annotated[int, typer.Option(help="Tokens whose activations are collected.")] = 100_000,
    n: Annotated[int, typer.Option("--n", help="Prompts per task that measure it.")] = 64,
    seed: Annotated[int, typer.Option(help="Draws text, start and steps.")] = 0,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("dictionary"),
    force: Annotated[bool, typer.Option("--force", help="Replace the folder.")] = False,
    as_json: AsJson = False,
    _device: Device = None,
) -> None:
    """Train a sparse dictionary of one site of a model, and measure what it is worth.

    A stopped training goes on when the same command is given again.
    """
    from circuits.cli.progress import shown_progress
    from circuits.dictionaries.training import train_dictionary as trained

    with shown_progress() as progress:
        progress(0, 0, "opening the model")
        made = trained(
            model,
            site,
            kind=kind,
            latents=latents,
            k=k,
            steps=steps,
            batch=batch,
            rate=rate,
            text=text,
            tokens=tokens,
            n=n,
            seed=seed,
            out=out,
            force=force,
            progress=progress,
        )
    if as_json:
        print_json(made.card)
        return
    print_report(made.report())
    typer.echo(f"written {out}")


def check_dictionary(
    dictionary: Annotated[str, typer.Argument(help="PATH or SITE=PATH.")],
    model: Model = "nano",
    task: Annotated[
        list[str] | None, typer.Option("--task", help="Tasks to ask; may be repeated.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Prompts per task.")] = 64,
    seed: Annotated[int, typer.Option(help="Draws the prompts.")] = 0,
    batch_size: BatchSize = 32,
    as_json: AsJson = False,
    _device: Device = None,
) -> None:
    """Say what a dictionary explains, and what the model still can do with it in place."""
    from circuits.cli.progress import shown_progress
    from circuits.dictionaries.quality import prompts_for, quality
    from circuits.models import load_model
    from patching.dictionaries.read import read_dictionaries

    (read,) = read_dictionaries([dictionary])
    with shown_progress() as progress:
        progress(0, 0, "opening the model")
        opened = load_model(model)
        prompts, refused = prompts_for(opened, task or WORDED, n, seed)
        found = quality(opened, read, prompts, batch_size)
    if as_json:
        print_json({**found.to_json(), "refused": dict(refused)})
        return
    typer.echo(repr(read))
    typer.echo(found.line())
    print_table(found.table())
    for name, why in refused.items():
        typer.echo(f"{name} cannot be asked: {why}")


def latents(
    task: Annotated[str, typer.Argument(help="A task, or a file of prompt pairs.")],
    dictionary: Dictionaries,
    model: Model = "nano",
    method: Annotated[str, typer.Option(help="How latents are scored.")] = "secant",
    direction: Annotated[str, typer.Option(help="noising or denoising.")] = "noising",
    metric: Metric = None,
    positions: Annotated[str, typer.Option(help="all, named or token.")] = "all",
    n: Annotated[int, typer.Option("--n", help="Prompt pairs to score on.")] = 64,
    held_out: Annotated[int, typer.Option(help="Prompt pairs to test on.")] = 64,
    seed: Annotated[int, typer.Option(help="Draws the prompt pairs.")] = 0,
    edges: Annotated[
        int, typer.Option(help="Join so many of the strongest latents by edges, as a circuit.")
    ] = 0,
    top: Annotated[int, typer.Option(help="How many latents to print.")] = 20,
    batch_size: BatchSize = 16,
    out: Annotated[Path | None, typer.Option(help="A folder for scores and report.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder.")] = False,
    force_dictionary: Force = False,
    as_json: AsJson = False,
    _device: Device = None,
) -> None:
    """Find the latents that carry an answer, and test how much the strongest ones recover.

    The test keeps the strongest latents alone, on prompts that they were not found on; all other
    latents get the corrupted run's values. The coordinates of the stream stand beside them.
    """
    from circuits.cli.progress import shown_progress
    from circuits.dictionaries.study import latents as study

    with shown_progress() as progress:
        progress(0, 0, "opening the model")
        found = study(
            model,
            task,
            dictionary,
            method=method,
            direction=direction,
            metric=metric,
            positions=positions,
            n=n,
            held_out=held_out,
            seed=seed,
            batch_size=batch_size,
            edges=edges,
            out=out,
            force=force,
            force_dictionary=force_dictionary,
            progress=progress,
        )
    if as_json:
        print_json(found.to_json())
        return
    print_report(found.report(top))
    if out is not None:
        typer.echo(f"written {out}")


def latent(
    name: Annotated[str, typer.Argument(help="A latent, such as resid_post.1.f812 or m3.f12.")],
    dictionary: Dictionaries,
    model: Model = "nano",
    text: Annotated[str, typer.Option(help="tasks, model, or a text file.")] = TASKS,
    tokens: Annotated[int, typer.Option(help="Tokens to look through.")] = 20_000,
    top: Annotated[int, typer.Option(help="Contexts and words to show.")] = 10,
    seed: Annotated[int, typer.Option(help="Draws the text.")] = 0,
    as_json: AsJson = False,
    _device: Device = None,
) -> None:
    """Show where a latent fires, and which words it makes more likely."""
    from circuits.cli.progress import shown_progress
    from circuits.dictionaries.meaning import latent as meaning
    from circuits.models import load_model
    from patching.dictionaries.read import read_dictionaries

    read = read_dictionaries(dictionary)
    with shown_progress() as progress:
        progress(0, 0, "opening the model")
        found = meaning(load_model(model), read, name, text, tokens, top, seed, progress)
    if as_json:
        print_json(found.to_json())
        return
    print_report(found.report())
