"""The command `emotion`: study a concept in a model and write a folder of what was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from circuits.cli.asking import Bos, Chat, ChatPlain, how_of
from circuits.cli.options import Device, Model
from circuits.cli.output import AsJson, print_json
from tasks.errors import MethodError

if TYPE_CHECKING:
    from circuits.studies.emotion.pipeline import Study

Opening = Annotated[
    str | None, typer.Option(help="The beginning of replies. Default for emotions: ' I feel'.")
]
Layers = Annotated[
    str | None, typer.Option(help="Layers to steer, such as 2,3. Default: the stable ones.")
]
Prompts = Annotated[
    Path | None, typer.Option(help="A JSON file of labels and prompts. Default: emotions.")
]
Positions = Annotated[
    Literal["last", "all"], typer.Option(help="The positions where control acts.")
]
Threshold = Annotated[
    float, typer.Option(help="Least cosine between neighbouring layers that count as stable.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("emotion")(command)


def command(
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    model: Model = "nano",
    _device: Device = None,
    bos: Bos = None,
    chat: Chat = False,
    chat_plain: ChatPlain = False,
    prompts: Prompts = None,
    opening: Opening = None,
    groups: Annotated[int, typer.Option(help="Groups of prompts to find the components.")] = 48,
    tests: Annotated[int, typer.Option(help="Groups of prompts to test control.")] = 40,
    tuning: Annotated[int, typer.Option(help="Groups of prompts to choose strengths.")] = 16,
    draws: Annotated[int, typer.Option(help="Number of random sets of components.")] = 5,
    new_tokens: Annotated[int, typer.Option(help="Most tokens of a reply.")] = 12,
    neurons: Annotated[int | None, typer.Option(help="Number of neurons of a circuit.")] = None,
    heads: Annotated[int | None, typer.Option(help="Number of heads of a circuit.")] = None,
    neuron_floor: Annotated[int | None, typer.Option(help="Fewest neurons of a layer.")] = None,
    head_floor: Annotated[int | None, typer.Option(help="Fewest heads of a layer.")] = None,
    layers: Layers = None,
    threshold: Threshold = 0.9,
    after_norm: Annotated[bool, typer.Option(help="Read heads after the norm.")] = False,
    positions: Positions = "last",
    seed: Annotated[int, typer.Option(help="Random seed for components and stories.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Prompts per forward pass.")] = 64,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a study that is in the folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find and drive the circuits with which a model shows the emotion it is asked to show."""
    from circuits.cli.progress import shown_progress
    from circuits.studies.emotion.folder import emotion

    with shown_progress() as progress:
        study = emotion(
            model,
            out,
            prompts,
            opening=opening,
            force=force,
            progress=progress,
            groups=groups,
            tests=tests,
            tuning=tuning,
            draws=draws,
            new_tokens=new_tokens,
            neurons=neurons,
            heads=heads,
            neuron_floor=neuron_floor,
            head_floor=head_floor,
            layers=_numbers(layers),
            threshold=threshold,
            after_norm=after_norm,
            positions=positions,
            seed=seed,
            batch_size=batch_size,
            **how_of(bos, chat, chat_plain),
        )
    _print(study, out, as_json)


def _print(study: Study, out: Path, as_json: bool) -> None:
    """The whole report as JSON, or its tables."""
    from circuits.cli.printing import print_report, printable

    if as_json:
        print_json(study.results)
        return
    print_report(study.report())
    typer.echo(printable(f"written: {out}"))


def _numbers(text: str | None) -> tuple[int, ...] | None:
    """Whole numbers between commas."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise MethodError(f"layers are numbers between commas, given '{text}'") from None
