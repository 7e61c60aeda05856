"""The command `tasks --model`: how well a model does every task, in one table."""

from __future__ import annotations

import json
from collections.abc import Sequence

import typer

from circuits.abilities import Ability, abilities
from circuits.cli.asking import How
from circuits.cli.printing import printable
from circuits.results.intervals import spelled
from circuits.results.tables import Table

TITLES = ["task", "n", "right", "preferred", "metric", "mean"]


def present(
    model: str, names: Sequence[str], n: int, seed: int, how: How, *, as_json: bool
) -> None:
    """Ask the model every task (or those named) and print what came of it."""
    import tasks
    from circuits.cli.discover import prepare
    from circuits.cli.printing import print_table
    from circuits.cli.progress import shown_progress
    from circuits.config import Config
    from circuits.models import check_chat, load_model, locate

    locate(model)
    check_chat(model, how["chat"])
    for name in names:
        tasks.get(name)
    with shown_progress() as progress:
        progress(0, 0, "opening the model")
        prepare(Config(task=None, model=model))
        results = list(abilities(load_model(model), names, n, seed, progress=progress, **how))
    if as_json:
        typer.echo(json.dumps([each.to_json() for each in results], indent=2))
        return
    print_table(Table(TITLES, [_row(each) for each in results if not each.refused]))
    for each in results:
        if each.refused:
            typer.echo(f"cannot be asked: {printable(each.refused)}")
    typer.echo(
        "right: the most likely token is an answer; preferred: over the counterfactual answer. "
        "Other options of a task: circuits tasks sva:structure=noun --model ..."
    )


def _row(each: Ability) -> list[str]:
    assert each.value is not None
    return [
        each.task,
        str(each.n),
        f"{each.right:.0%}",
        f"{each.preferred:.0%}",
        each.metric,
        spelled(each.value, each.interval, "+.2f"),
    ]
