"""The command `emotion`: study a concept in a model and write a folder of what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("emotion")(command)


def command(
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist.")],
    model: Annotated[str, typer.Option(help="nano, a Hugging Face id, or a directory.")] = "nano",
    prompts: Annotated[
        Path | None, typer.Option(help="A JSON file of labels and prompts; default: emotions.")
    ] = None,
    opening: Annotated[
        str | None, typer.Option(help="How replies are begun. Default for emotions: ' I feel'.")
    ] = None,
    groups: Annotated[int, typer.Option(help="Groups of prompts to find components on.")] = 48,
    tests: Annotated[int, typer.Option(help="Groups of prompts to try control on.")] = 40,
    new_tokens: Annotated[int, typer.Option(help="Tokens of a reply, at most.")] = 12,
    neurons: Annotated[int | None, typer.Option(help="Neurons of a circuit.")] = None,
    heads: Annotated[int | None, typer.Option(help="Heads of a circuit.")] = None,
    threshold: Annotated[float, typer.Option(help="Adjacent cosine of stable layers.")] = 0.9,
    after_norm: Annotated[bool, typer.Option(help="Read heads after the norm.")] = False,
    positions: Annotated[str, typer.Option(help="Where control acts: last or all.")] = "last",
    seed: Annotated[int, typer.Option(help="Draws the random components and stories.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Prompts per forward pass.")] = 64,
) -> None:
    """Find and drive the circuits with which a model shows the emotion it is asked to show."""
    from circuits.cli_progress import shown_progress
    from circuits.emotion_folder import check_new, write
    from circuits.emotion_prompts import emotion, read_concept
    from circuits.models import load_model, locate

    check_new(out)
    locate(model)
    concept = read_concept(prompts) if prompts else emotion(opening)
    from circuits.emotion import Settings, study

    settings = Settings(
        groups,
        tests,
        new_tokens,
        neurons,
        heads,
        threshold,
        after_norm,
        positions,
        seed,
        batch_size,
    )
    opened = load_model(model)
    with shown_progress() as progress:
        found = study(opened, concept, settings, progress, model)
    from circuits.cli_text import printable
    from circuits.emotion_text import summary

    write(out, found)
    typer.echo(printable(summary(found.facts)))
    typer.echo(printable(f"written: {out}"))
