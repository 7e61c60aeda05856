"""The command `af1`: search for the All-for-One subgraph, print it, write a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli.asking import Bos, Chat, ChatPlain, how_of
from circuits.cli.options import Device, Model, TaskOrFile
from circuits.cli.output import AsJson, print_json

if TYPE_CHECKING:
    from circuits.studies.allforone.folder import SearchConfig


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("af1")(command)


def command(
    task: TaskOrFile,
    model: Model = "nano",
    _device: Device = None,
    bos: Bos = None,
    chat: Chat = False,
    chat_plain: ChatPlain = False,
    n: Annotated[
        int, typer.Option("--n", help="Number of prompts. Only those answered right are used.")
    ] = 256,
    seed: Annotated[int, typer.Option(help="Random seed for prompts and samples.")] = 0,
    samples: Annotated[int, typer.Option(help="Prompts for each conditional mean.")] = 256,
    tolerance: Annotated[
        float, typer.Option(help="Share of the right answers that may be lost.")
    ] = 0.05,
    alternatives: Annotated[
        bool, typer.Option(help="Also measure other replacements and other peeks.")
    ] = True,
    prune: Annotated[bool, typer.Option(help="Remove heads one by one.")] = True,
    batch_size: Annotated[int, typer.Option(help="Prompts per forward pass.")] = 64,
    out: Annotated[
        Path | None, typer.Option(help="The run folder to write. Default: runs/af1-TASK.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the task, such as form=-: see 'circuits tasks'."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a run that is in the folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find in how few blocks the operands of a sum reach the last token (All-for-One)."""
    from circuits.studies.allforone.folder import SearchConfig, read_options
    from circuits.studies.allforone.search import Settings

    settings = Settings(n, seed, samples, tolerance, alternatives, prune, batch_size)
    options = read_options(setting or [])
    how = how_of(bos, chat, chat_plain)
    config = SearchConfig(task=task, model=model, options=options, settings=settings, **how)
    carry_out(config, out or Path("runs") / f"af1-{config.folder_name}", force, as_json)


def carry_out(config: SearchConfig, folder: Path, force: bool, as_json: bool = False) -> None:
    """Search, unless the folder holds this very search already, and print what was found."""
    from circuits.cli.discover import prepare
    from circuits.cli.printing import printable
    from circuits.cli.progress import shown_progress
    from circuits.folder import finished
    from circuits.output import guarded
    from circuits.studies.allforone.folder import REPORT, RESULT, run

    config.check()
    config = config.settled()
    with guarded(folder):
        if finished(folder, config, force) is None or not (folder / REPORT).is_file():
            with shown_progress() as progress:
                progress(0, 0, "loading torch and transformers")
                prepare(config)
                run(config, folder, progress)
        elif not as_json:
            typer.echo(
                "this search was finished before: nothing was computed; --force does it again"
            )
    if as_json:
        print_json(json.loads((folder / RESULT).read_text(encoding="utf-8")))
        return
    typer.echo(printable((folder / REPORT).read_text(encoding="utf-8")))
    typer.echo(f"written to {printable(folder)}")
