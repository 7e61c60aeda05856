"""The command `ablate`: what the answer loses without some parts of the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from circuits.cli import complete
from circuits.cli.asking import Bos, Chat, ChatPlain, how_of
from circuits.cli.options import BatchSize, Device, Metric, Model, SkipBad, TaskOrFile
from circuits.cli.output import AsJson
from tasks.errors import MethodError

if TYPE_CHECKING:
    from patching.ablation.kinds import Ablation
    from patching.ablation.means import MeanActivations


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("ablate")(command)


What = Annotated[
    list[str] | None,
    typer.Argument(help="Sites such as a3.h0, m2@END, m3.n17 or m3.e17, or edges: 'm0->a3.h1<q>'."),
]
N = Annotated[
    int | None,
    typer.Option("--n", help="Number of prompt pairs. Default: 64 of a task, all of a file."),
]


def command(
    task: TaskOrFile,
    what: What = None,
    ablation: Annotated[
        str,
        typer.Option(
            autocompletion=complete.ablations,
            help="What replaces them: see 'circuits ablations'.",
        ),
    ] = "corrupted",
    means: Annotated[Path | None, typer.Option(help="A file made by 'circuits means'.")] = None,
    model: Model = "nano",
    _device: Device = None,
    metric: Metric = None,
    bos: Bos = None,
    chat: Chat = False,
    chat_plain: ChatPlain = False,
    n: N = None,
    seed: Annotated[int, typer.Option(help="Random seed for prompt pairs and the interval.")] = 0,
    batch_size: BatchSize = 32,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Remove named parts of a model, all at once, and report what its answer loses."""
    from circuits.ablation import ablate, check_parts
    from circuits.cli.discover import prepare
    from circuits.cli.printing import printable
    from circuits.cli.progress import shown_progress
    from circuits.config import Config
    from circuits.models import load_model
    from circuits.prompts import prompts_of
    from patching.ablation.kinds import parse_ablation

    kind = parse_ablation(ablation)
    check_parts(what or (), kind)
    how = how_of(bos, chat, chat_plain)
    drawn: dict[str, Any] = {"metric": metric, "seed": seed, "batch_size": batch_size}
    config = Config(task, model, n=n, skip_bad=skip_bad, **drawn, **how)
    config.check()
    config = config.settled()
    stated = _means(kind, means)
    prepare(config)
    with shown_progress() as progress:
        progress(0, 0, "opening the model")
        opened = load_model(model)
        pairs = prompts_of(config, opened)
        result = ablate(opened, pairs, what or (), kind, means=stated, progress=progress, **drawn)
    typer.echo(json.dumps(result.to_json(), indent=1) if as_json else printable(str(result)))


def _means(kind: Ablation | object, path: Path | None) -> MeanActivations | None:
    """The means of a file, if the ablation takes such means."""
    from circuits.evaluation.running import AVERAGED, fitting

    if path is None:
        return None
    if str(kind) not in AVERAGED:
        raise MethodError(f"ablation '{kind}' has no use for {path}: it takes no such means")
    return fitting(str(kind), path)
