"""The command line of the recipe."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from circuits.nano.card import write_model
from circuits.nano.recipe import Recipe
from circuits.nano.train import CHECKPOINT, train
from circuits.output import guarded
from circuits.results.intervals import Proportion
from tasks.errors import CircuitsError

DEFAULT = Recipe()
SIZES = ("seed", "steps", "layers", "heads", "width", "context")


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, measures and writes the model; prints what was measured."""
    given = _parser().parse_args(arguments)
    console = Console()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(1)
    try:
        with guarded(given.out):
            _train_and_write(given, console)
    except CircuitsError as fault:
        console.print(str(fault), markup=False, highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print(f"stopped; go on from {given.out / CHECKPOINT} with --resume")
        sys.exit(130)


def _train_and_write(given: argparse.Namespace, console: Console) -> None:
    sizes = {name: getattr(given, name) for name in SIZES}
    recipe = Recipe(tasks=tuple(given.tasks.split(",")), rate=given.rate, **sizes)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=console) as progress:
        bar = progress.add_task("training", total=recipe.steps)

        def report(step: int, losses: Mapping[str, float]) -> None:
            progress.update(bar, completed=step, description=f"loss {sum(losses.values()):.3f}")
            if given.log_every and step % given.log_every == 0:
                shown = "  ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
                progress.console.print(f"step {step}  {shown}")

        run = train(recipe, given.out, resume=given.resume, minutes=given.minutes, report=report)
    if run.step < recipe.steps:
        console.print(f"paused after step {run.step} of {recipe.steps}; go on with --resume")
        return
    run.model.eval()
    measured = {source.name: source.measure(run.model, run.tokenizer) for source in run.sources}
    write_model(run, given.out, measured)
    (given.out / CHECKPOINT).unlink(missing_ok=True)
    for name, lines in measured.items():
        for what, value in lines.items():
            shown = value if isinstance(value, Proportion) else f"{value:.4g}"
            console.print(f"{name}: {what}: {shown}", markup=False, highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m circuits.nano.train",
        description="Train the embedded model on the text of some tasks, measure it and write it.",
    )
    parser.add_argument(
        "--tasks",
        default=",".join(DEFAULT.tasks),
        help="comma-separated sources of training text (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--minutes", type=float, help="pause with a checkpoint after this long")
    parser.add_argument("--rate", type=float, default=DEFAULT.rate, help="peak learning rate")
    parser.add_argument(
        "--log-every", type=int, default=0, help="print the loss every so many steps"
    )
    for name in SIZES:
        parser.add_argument(f"--{name}", type=int, default=getattr(DEFAULT, name))
    return parser
