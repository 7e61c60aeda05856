"""The commands `trace` and `steer-latent`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuits.cli.asking import Bos, how_of
from circuits.cli.dictionaries import Dictionaries
from circuits.cli.options import BatchSize, Device, Metric, Model
from circuits.cli.output import AsJson, print_json
from circuits.cli.printing import print_report
from circuits.dictionaries.text import TASKS


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("trace")(trace)
    app.command("steer-latent")(steer_latent)


def trace(
    prompt: Annotated[str, typer.Argument(help="The text whose continuation is explained.")],
    dictionary: Dictionaries,
    model: Model = "nano",
    corrupted: Annotated[
        str | None,
        typer.Option(help="A prompt of as many tokens: trace the difference between the two."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="A next token to explain, such as ' Mary'. Default: the likeliest ones. May be "
            "repeated.",
        ),
    ] = None,
    bos: Bos = None,
    most: Annotated[
        int, typer.Option(help="Latents with effects of their own; the others count as error.")
    ] = 7500,
    node_share: Annotated[
        float, typer.Option(help="Share of the influence that the kept nodes have.")
    ] = 0.8,
    edge_share: Annotated[
        float, typer.Option(help="Share of it that the kept edges have among them.")
    ] = 0.98,
    top: Annotated[int, typer.Option(help="How many nodes to print.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Backward passes done as one.")] = 32,
    out: Annotated[Path | None, typer.Option(help="A folder for the graph and its page.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder.")] = False,
    as_json: AsJson = False,
    _device: Device = None,
) -> None:
    """Trace how tokens and transcoder latents make the next token: an attribution graph.

    Direct effects are exact with attention patterns and norms as they are at the prompt; with
    --corrupted they carry the whole difference, also through queries and keys.
    """
    from circuits.cli.progress import shown_progress
    from circuits.dictionaries.trace import trace as traced

    with shown_progress() as progress:
        progress(0, 0, "opening the model")
        found = traced(
            model,
            prompt,
            dictionary,
            corrupted=corrupted,
            targets=target or (),
            bos=how_of(bos, False, False)["bos"],
            most=most,
            node_share=node_share,
            edge_share=edge_share,
            batch_size=batch_size,
            out=out,
            force=force,
            progress=progress,
        )
    if as_json:
        print_json(found.to_json())
        return
    print_report(found.report(top))
    if out is not None:
        typer.echo(f"written {out}")


def steer_latent(
    name: Annotated[str, typer.Argument(help="A latent, such as resid_post.1.f812 or m3.f12.")],
    task: Annotated[str, typer.Argument(help="A task, or a file of prompt pairs.")],
    dictionary: Dictionaries,
    model: Model = "nano",
    strength: Annotated[
        list[float] | None,
        typer.Option(
            "--strength",
            help="How often its mean amount is added; below 0 takes away. May be repeated. "
            "Default: -8 -4 -2 2 4 8.",
        ),
    ] = None,
    metric: Metric = None,
    n: Annotated[int, typer.Option("--n", help="Prompt pairs of the task.")] = 64,
    text: Annotated[str, typer.Option(help="tasks, model, or a text file.")] = TASKS,
    tokens: Annotated[int, typer.Option(help="Tokens of plain text.")] = 4000,
    seed: Annotated[int, typer.Option(help="Draws prompts and text.")] = 0,
    batch_size: BatchSize = 32,
    as_json: AsJson = False,
    _device: Device = None,
) -> None:
    """Steer by a latent: always, on texts where it fires, or on tokens where it fires.

    The table says for each strength what becomes of the task, and of plain text's perplexity.
    """
    from circuits.cli.progress import shown_progress
    from circuits.dictionaries.steering import STRENGTHS
    from circuits.dictionaries.steering import steer_latent as steered

    with shown_progress() as progress:
        progress(0, 0, "opening the model")
        found = steered(
            model,
            name,
            task,
            dictionary,
            strengths=strength or STRENGTHS,
            metric=metric,
            n=n,
            text=text,
            tokens=tokens,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
        )
    if as_json:
        print_json(found.to_json())
        return
    print_report(found.report())
