"""The command `means`: mean activations of a task's prompts, for ablations to put elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from circuits import __version__
from circuits.cli.asking import Bos, Chat, ChatPlain, how_of
from circuits.cli.options import Device, Model, SkipBad, TaskOrFile
from circuits.cli.output import AsJson, print_json
from tasks.errors import RunError

Kind = Annotated[
    Literal["mean", "mean-by-position", "mean-by-token"],
    typer.Option(help="The ablation that will use them."),
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("means")(means)


def means(
    task: TaskOrFile,
    ablation: Kind = "mean",
    model: Model = "nano",
    _device: Device = None,
    bos: Bos = None,
    chat: Chat = False,
    chat_plain: ChatPlain = False,
    n: Annotated[
        int | None,
        typer.Option("--n", help="Number of prompt pairs. Default: 64 of a task, all of a file."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed for the prompt pairs.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Prompts per forward pass.")] = 64,
    skip_bad: SkipBad = False,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("means.safetensors"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Estimate the mean of everything that an edge carries, over a task's clean prompts."""
    from circuits.cli.discover import prepare
    from circuits.cli.progress import shown_progress
    from circuits.config import Config
    from circuits.evaluation.running import averaged
    from circuits.models import load_model
    from circuits.output import write_file
    from circuits.prompts import prompts_of
    from patching.ablation.estimates import estimate_means
    from patching.journal import kept
    from patching.nodes.deltas import points_of
    from patching.nodes.layout import layout_of

    by = averaged(ablation)
    how = how_of(bos, chat, chat_plain)
    config = Config(
        task, model, n=n, seed=seed, batch_size=batch_size, skip_bad=skip_bad, **how
    ).settled()
    config.check()
    with _reserved(out, force):
        prepare(config)
        with shown_progress() as progress:
            progress(0, 0, "opening the model")
            opened = load_model(model)
            pairs = prompts_of(config, opened)
            points = points_of(layout_of(opened.anatomy))
            with kept(out, __version__, config.digest(), by) as journal:
                options = config.sweep(progress, journal)
                estimated = estimate_means(opened, pairs, points, by, options)
                write_file(out, estimated.save)
    if as_json:
        about = {"written": str(out), "by": by, "means": len(estimated.keys)}
        print_json(about | asdict(estimated.origin))
        return
    shortest, longest = min(estimated.origin.lengths), max(estimated.origin.lengths)
    tokens = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
    many = "One mean of every activation" if by == "all" else f"{len(estimated.keys)} means by {by}"
    of = f"{len(pairs)} pairs of {pairs.task}"
    typer.echo(f"{many}, over the clean prompts of {of}, {tokens} tokens long")
    typer.echo(f"written {out}")


@contextmanager
def _reserved(out: Path, force: bool) -> Iterator[None]:
    """Keep the file for the command; before it, refuse one that must not be replaced."""
    from circuits.output import guarded, make_ready

    home = make_ready(out).parent
    if not home.is_dir():
        raise RunError(f"{out} cannot be written: there is no folder {home}")
    with guarded(out):
        if out.exists() and not force:
            raise RunError(
                f"{out} exists already; choose another --out, or replace it with --force"
            )
        yield
