"""The command `validate`: every estimate beside the exact effect, as a table and a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits import __version__
from circuits.cli.asking import Bos, Chat, ChatPlain, how_of
from circuits.cli.options import BatchSize, Device, Model, SkipBad, TaskOrFile
from circuits.cli.output import AsJson, print_json
from patching.processes import leads
from tasks.errors import counted

if TYPE_CHECKING:
    from circuits.config import Config
    from circuits.validation.forecast import Forecast
    from circuits.validation.result import Validation
    from circuits.validation.validation import Plan

Estimates = Annotated[
    list[str] | None,
    typer.Option(help="An estimate, such as relevance:rules=gim. Default: eight of them."),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(help="A kind of site (resid_pre, z, q, ..., edge). Default: seven of them."),
]
Sites = Annotated[
    int,
    typer.Option(help="Most sites of each kind to compare. If there are more, they are sampled."),
]
NewFolder = Annotated[
    Path | None,
    typer.Option(
        help="A new folder for validation.json, .csv and .svg. Default: nothing is written."
    ),
]


def validate(
    task: TaskOrFile,
    model: Model = "nano",
    _device: Device = None,
    bos: Bos = None,
    chat: Chat = False,
    chat_plain: ChatPlain = False,
    method: Estimates = None,
    kind: Kinds = None,
    n: Annotated[
        int | None,
        typer.Option("--n", help="Number of prompt pairs. Default: 32; 16 or 8 for large models."),
    ] = None,
    sites: Sites = 96,
    seed: Annotated[
        int, typer.Option(help="Random seed for prompt pairs, sites and resamples.")
    ] = 0,
    batch_size: BatchSize = 32,
    skip_bad: SkipBad = False,
    out: NewFolder = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a validation that is in the folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every estimate with exact patching, on your model and task."""
    from circuits.cli.discover import prepare
    from circuits.cli.printing import printable
    from circuits.cli.progress import shown_progress
    from circuits.config import Config
    from circuits.models import locate
    from circuits.validation.folder import OUTPUT, write
    from circuits.validation.forecast import MOST
    from circuits.validation.validation import KINDS, METHODS, carried_out, check_asked
    from patching.journal import kept

    methods, kinds = tuple(method or METHODS), tuple(kind or KINDS)
    check_asked(methods, kinds)
    how = how_of(bos, chat, chat_plain)
    config = Config(
        task, model, n=n or MOST, seed=seed, batch_size=batch_size, skip_bad=skip_bad, **how
    ).settled()
    config.check()
    with OUTPUT.reserved(out, force):
        locate(model)
        prepare(config)
        plan, work = _planned(config, n is None, methods, kinds, sites)
        for line in work.lines(len(plan.pairs)) if leads() else ():
            typer.echo(printable(line), err=True)
        about = __version__, config.digest(), methods, kinds, sites, len(plan.pairs)
        with kept(out, *about) as journal, shown_progress() as progress:
            validation = carried_out(plan, work, config.sweep(progress, journal))
            if out is not None:
                write(validation, out)
        if as_json:
            print_json(validation.to_json())
            return
        _print(validation)
        if out is not None:
            typer.echo(f"written {out} (validation.json, validation.csv, validation.svg)")


def _planned(
    config: Config, any_number: bool, methods: tuple[str, ...], kinds: tuple[str, ...], sites: int
) -> tuple[Plan, Forecast]:
    """What is to be measured on an opened model, and how much work it is.

    Where nobody said how many pairs, there are no more than are affordable.
    """
    from circuits.cli.progress import shown_progress
    from circuits.models import load_model
    from circuits.prompts import prompts_of
    from circuits.validation.forecast import affordable
    from circuits.validation.validation import Plan

    with shown_progress() as progress:
        progress(0, 0, "opening the model")
        opened = load_model(config.model)
        pairs = prompts_of(config, opened)
        plan = Plan(opened, pairs, methods, kinds, sites=sites, seed=config.seed)
        work = plan.work(config.sweep())
        if any_number and (fewer := affordable(work, opened, pairs)) < len(pairs):
            plan = replace(plan, pairs=pairs[:fewer])
            work = plan.work(config.sweep())
    return plan, work


def _print(validation: Validation) -> None:
    from rich.console import Console

    from circuits.cli.printing import cell, grid, print_grid

    summary = validation.summary()
    table = grid(gap=1)
    table.add_column("Pearson with exact", overflow="fold")
    # Eighty columns hold the default table, if names of two words take two lines.
    for column in summary.columns:
        table.add_column(str(column).replace("_", "\n"), justify="right", no_wrap=True)
    for name, row in summary.iterrows():
        numbers = [f"{value:.2f}" for value in row.drop("seconds")]
        table.add_row(cell(name), *numbers, f"{row['seconds']:.1f}")
    print_grid(table)
    each = validation.to_frame()
    wide = (each["pearson_high"] - each["pearson_low"]).dropna()
    widths = "undefined"
    if len(wide):
        widths = f"at most {wide.median():.2f} wide for half of them, {wide.max():.2f} for all"
    Console().print(
        f"{counted(validation.count, 'prompt pair')}, mean effect of the whole difference "
        f"{validation.total_effect:+.3f} {validation.metric}; means over noising and denoising, "
        f"whose 95 % intervals over prompts are {widths} (--out writes them). Where the largest "
        "exact effect of a kind is a small part of that difference, its correlation says little."
        + (f" The sites are {sample}." if (sample := validation.sampled()) else ""),
        style="dim",
        highlight=False,
    )
