"""The commands that list what there is: tasks, methods, selectors, ablations."""

from __future__ import annotations

from typing import Annotated

import typer

from circuits.cli.asking import Bos, Chat, ChatPlain, how_of
from circuits.cli.options import Device
from circuits.cli.output import AsJson
from tasks.errors import TaskError


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("tasks")(list_tasks)
    app.command("methods")(list_methods)
    app.command("selectors")(list_selectors)
    app.command("ablations")(list_ablations)


def list_tasks(
    task: Annotated[
        list[str] | None, typer.Argument(help="Only these tasks, with --model. Default: all.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Measure how well this model does each task.")
    ] = None,
    _device: Device = None,
    n: Annotated[int, typer.Option("--n", help="Prompts of each task, with --model.")] = 32,
    seed: Annotated[int, typer.Option(help="Random seed for the prompts.")] = 0,
    bos: Bos = None,
    chat: Chat = False,
    chat_plain: ChatPlain = False,
    as_json: AsJson = False,
) -> None:
    """List the tasks. With --model, also measure how well a model does each."""
    from circuits.cli.text import print_list
    from circuits.lists import list_tasks as task_rows

    if model is not None:
        from circuits.cli.abilities import present

        how = how_of(bos, chat, chat_plain)
        present(model, task or [], n, seed, how, as_json=as_json)
        return
    if task:
        raise TaskError(f"{task[0]}: name a model, as in circuits tasks {task[0]} --model nano")
    print_list(task_rows(), as_json)
    if not as_json:
        typer.echo("Options are written behind the task, as in mental_math:form=-+style=question.")
        typer.echo("Where no split is given, nano is asked split=test, other models split=all.")


def list_methods(
    agreement: Annotated[
        bool, typer.Option("--agreement", help="How far to trust each, with measured agreement.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the methods that score parts of a model, with their costs."""
    from circuits.cli.text import print_list
    from circuits.lists import list_agreement as agreement_rows
    from circuits.lists import list_methods as method_rows

    print_list(agreement_rows() if agreement else method_rows(), as_json)
    if agreement and not as_json:
        from circuits.validation.agreement import measured_on

        typer.echo(f"Agreement: {measured_on()}. On your model and task: circuits validate.")


def list_selectors(as_json: AsJson = False) -> None:
    """List the ways to select a circuit from scores, with their costs."""
    from circuits.cli.text import print_list
    from circuits.lists import list_selectors as selector_rows

    print_list(selector_rows(), as_json)


def list_ablations(as_json: AsJson = False) -> None:
    """List what can replace parts of a model, or cut their attention."""
    from circuits.cli.text import print_list
    from circuits.lists import list_ablations as ablation_rows

    print_list(ablation_rows(), as_json)
