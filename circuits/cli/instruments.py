"""The instruments as commands: attention, logit-lens, heat-map, path-patching and others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from circuits.cli.asking import Bos, Chat, ChatPlain, How, how_of
from circuits.cli.choosing import Count
from circuits.cli.options import BatchSize, Device, Metric, Model, SkipBad, TaskOrFile
from circuits.cli.output import AsJson, print_json
from patching.processes import leads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Seed = Annotated[int, typer.Option(help="Draws the prompt pairs and the intervals.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Draw the picture here: .svg, .png or .pdf."),
]


class Found(Protocol):
    """What an instrument found."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        ...

    def figure(self) -> Figure:
        """Its picture."""
        ...


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("attention")(attention)
    app.command("logit-lens")(logit_lens)
    app.command("direct-logit-attribution")(direct_logit_attribution)
    app.command("heat-map")(heat_map)
    app.command("path-patching")(path_patching)


def attention(
    task: TaskOrFile,
    model: Model = "nano",
    _device: Device = None,
    run: Annotated[str, typer.Option(help="Whose prompts: clean or corrupted.")] = "clean",
    head: Annotated[
        str | None,
        typer.Option(
            help="With -o: draw this head's attention, the mean over prompts by named position."
        ),
    ] = None,
    n: Count = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    bos: Bos = None,
    chat: Chat = False,
    chat_plain: ChatPlain = False,
    skip_bad: SkipBad = False,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """What every head attends to, and which heads could be named for it."""
    from circuits.studies.instruments.attention import RUNS
    from circuits.studies.instruments.attention import attention as measure
    from tasks.errors import MethodError, unknown

    if run not in RUNS:
        raise MethodError(unknown("run", run, RUNS))
    how = how_of(bos, chat, chat_plain)
    asked = _Asked(task, model, n, seed, batch_size, skip_bad, how)
    found = asked.answer(lambda opened, pairs, more: measure(opened, pairs, run=run, **more))
    _tell(found, as_json)
    if output is not None:
        _draw(found.figure() if head is None else found.pattern(head), output)


def logit_lens(
    task: TaskOrFile,
    model: Model = "nano",
    _device: Device = None,
    metric: Metric = None,
    n: Count = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    bos: Bos = None,
    chat: Chat = False,
    chat_plain: ChatPlain = False,
    skip_bad: SkipBad = False,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """What the model would answer if it stopped after each layer."""
    from circuits.studies.instruments.logit_lens import logit_lens as measure

    how = how_of(bos, chat, chat_plain)
    asked = _Asked(task, model, n, seed, batch_size, skip_bad, how, metric)
    found = asked.answer(lambda opened, pairs, more: measure(opened, pairs, metric=metric, **more))
    _tell(found, as_json)
    if output is not None:
        _draw(found.figure(), output)


def direct_logit_attribution(
    task: TaskOrFile,
    model: Model = "nano",
    _device: Device = None,
    n: Count = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    bos: Bos = None,
    chat: Chat = False,
    chat_plain: ChatPlain = False,
    skip_bad: SkipBad = False,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """What each part adds to the answer's logit by itself."""
    from circuits.studies.instruments.direct_logit_attribution import (
        direct_logit_attribution as measure,
    )

    how = how_of(bos, chat, chat_plain)
    asked = _Asked(task, model, n, seed, batch_size, skip_bad, how)
    found = asked.answer(lambda opened, pairs, more: measure(opened, pairs, **more))
    _tell(found, as_json)
    if output is not None:
        _draw(found.figure(), output)


def heat_map(
    task: TaskOrFile,
    model: Model = "nano",
    _device: Device = None,
    site: Annotated[
        str, typer.Option(help="What is patched: resid_pre, attn_out, mlp_out, ...")
    ] = "resid_pre",
    positions: Annotated[
        str | None, typer.Option(help="named or token. Default: named, where the task names some.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="activation is exact; others estimate.")
    ] = "activation",
    direction: Annotated[str, typer.Option(help="noising or denoising.")] = "noising",
    metric: Metric = None,
    n: Count = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    bos: Bos = None,
    chat: Chat = False,
    chat_plain: ChatPlain = False,
    skip_bad: SkipBad = False,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Where in the prompt the answer is held, layer by layer: patching by layer and position."""
    from circuits.studies.instruments.heat_map import heat_map as measure

    how = how_of(bos, chat, chat_plain)
    asked = _Asked(task, model, n, seed, batch_size, skip_bad, how, metric)
    choices: dict[str, Any] = {"site": site, "positions": positions, "method": method}
    choices |= {"direction": direction, "metric": metric}

    found = asked.answer(lambda opened, pairs, more: measure(opened, pairs, **choices, **more))
    _tell(found, as_json)
    if output is not None:
        _draw(found.figure(), output)


def path_patching(
    task: TaskOrFile,
    model: Model = "nano",
    _device: Device = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            help="A receiver: a head's input (a3.h0<q>), a head, an MLP or logits; may be "
            "repeated, then all are patched together. Default: logits."
        ),
    ] = None,
    direction: Annotated[str, typer.Option(help="noising or denoising.")] = "noising",
    metric: Metric = None,
    n: Count = None,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    bos: Bos = None,
    chat: Chat = False,
    chat_plain: ChatPlain = False,
    skip_bad: SkipBad = False,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Which parts act on the answer by their direct ways into chosen receivers, exactly."""
    from circuits.studies.instruments.path_patching import path_patching as measure
    from patching.setting import check_direction

    how = how_of(bos, chat, chat_plain)
    asked = _Asked(task, model, n, seed, batch_size, skip_bad, how, metric)
    choices: dict[str, Any] = {"receivers": to or "logits", "direction": direction}
    choices["metric"] = metric
    check_direction(direction)
    found = asked.answer(lambda opened, pairs, more: measure(opened, pairs, **choices, **more))
    _tell(found, as_json)
    if output is not None:
        _draw(found.figure(), output)


class _Asked:
    """A question put to a model: checked before the model is opened."""

    def __init__(
        self,
        task: str,
        model: str,
        n: int | None,
        seed: int,
        batch_size: int,
        skip_bad: bool,
        how: How,
        metric: str | None = None,
    ) -> None:
        from circuits.config import Config

        drawn: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "metric": metric}
        config = Config(task, model, n=n, skip_bad=skip_bad, **drawn, **how)
        config.check()
        self.config = config.settled()
        self.options = {"seed": seed, "batch_size": batch_size}

    def answer(self, work: Callable[[Any, Any, dict[str, Any]], Any]) -> Any:
        """What an instrument finds."""
        from circuits.cli.discover import prepare
        from circuits.cli.progress import shown_progress
        from circuits.models import load_model
        from circuits.prompts import prompts_of

        prepare(self.config)
        with shown_progress() as progress:
            progress(0, 0, "opening the model")
            opened = load_model(self.config.model)
            pairs = prompts_of(self.config, opened)
            return work(opened, pairs, {**self.options, "progress": progress})


def _tell(found: Found, as_json: bool) -> None:
    from circuits.cli.printing import printable

    if as_json:
        print_json(found.to_json())
    else:
        typer.echo(printable(str(found)))


def _draw(drawn: Figure, path: Path) -> None:
    from circuits.results.pictures import save

    if leads():
        save(drawn, path)
        typer.echo(str(path), err=True)
