"""The commands `mitigate`, `edit apply` and `edit check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuits.cli.asking import Bos, Chat, ChatPlain, how_of
from circuits.cli.options import Device, Model, SkipBad
from circuits.cli.output import AsJson, print_json
from tasks.errors import TaskError, counted, unknown

MITIGATED = ("mcq_bias",)
HEADLINES = {"accuracy": "accuracy", "A where it is wrong": "A share, gold not A"}
"""What the terminal says of before and after, by the measure's name in the report."""

edits = typer.Typer(no_args_is_help=True, help="Carry out an edit plan, or only check it.")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(mitigate)
    app.add_typer(edits, name="edit")


def mitigate(
    task: Annotated[str, typer.Argument(help="The bias: mcq_bias.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    model: Model = "nano",
    _device: Device = None,
    file: Annotated[str, typer.Option(help="A file of your own questions (ARC, MMLU, ...).")] = "",
    skip_bad: SkipBad = False,
    bos: Bos = None,
    chat: Chat = False,
    chat_plain: ChatPlain = False,
    train: Annotated[int, typer.Option(help="Questions to choose the edit on.")] = 48,
    test: Annotated[
        int | None,
        typer.Option(help="Questions to measure it on. Default: 400; 200 or 100 for large models."),
    ] = None,
    others: Annotated[
        int, typer.Option(help="Prompts of each other task, and texts, to check for harm.")
    ] = 100,
    seed: Annotated[int, typer.Option(help="Random seed for the questions.")] = 0,
    recipe: Annotated[
        list[str] | None, typer.Option(help="A recipe to try. May be repeated. Default: all.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a mitigation that is in the folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find an edit against a bias towards 'A', measure it, and save the edited model."""
    if task not in MITIGATED:
        raise TaskError(unknown("mitigation", task, MITIGATED))
    from circuits.cli.printing import printable
    from circuits.cli.progress import shown_progress
    from circuits.clock import Whole
    from circuits.models import check_chat, load_model, locate
    from circuits.studies.bias.folder import OUTPUT, carry_out
    from circuits.studies.bias.forecast import forecast
    from circuits.studies.bias.mitigate import prepare
    from circuits.studies.bias.settings import Settings

    recipes = tuple(recipe or ())
    how = how_of(bos, chat, chat_plain)
    settings = Settings(train, test, seed, file, others, recipes, skip_bad, **how)
    with OUTPUT.reserved(out, force):
        locate(model)
        check_chat(model, settings.chat)
        opened = load_model(model)
        with shown_progress() as progress:
            progress(0, 0, "drawing questions")
            material = prepare(opened, settings)
            work = forecast(opened, material, settings)
        for line in (*map(printable, material.left_out), *work.lines(settings)):
            typer.echo(line, err=True)
        with shown_progress(whole=True) as progress:
            card = carry_out(opened, settings, out, Whole(progress, work.steps), material)
    if as_json:
        print_json(card)
        return
    for line in summary(card):
        typer.echo(printable(line))
    names = ", ".join(sorted(entry.name for entry in out.iterdir()))
    typer.echo(printable(f"written: {out} ({names})"))


def summary(card: dict) -> list[str]:
    """What the terminal says of a report card."""
    lines = []
    knows = card["knows"]
    if not knows["above"]:
        lines.append(
            f"The model does not know the answers: {knows['accuracy without prior']['value']:.3f} "
            f"right without its letter prior, chance is {knows['chance']:.2f}."
        )
    if card["chosen"] is None:
        return [*lines, "No edit was better than doing nothing; no model was saved."]
    tested = counted(card["questions"]["test"], "held-out question")
    lines += [f"Chosen edit: {card['plan']}", f"On {tested}, with 95 % intervals:"]
    before, after = card["conditions"]["no edit"], card["conditions"][card["chosen"]]
    lines += [
        f"  {name} {_percent(before[measure])} before, {_percent(after[measure])} after"
        for name, measure in HEADLINES.items()
    ]
    return lines + [
        f"  {'met   ' if row['met'] else 'missed'}  {row['criterion']}: {row['measured']:+.4f}"
        for row in card["criteria"]
    ]


def _percent(share: dict) -> str:
    """A share with its 95 % interval."""
    from circuits.results.intervals import percent

    return percent(share["value"], share["interval"], " %")


@edits.command("apply")
def apply_plan(
    plan: Annotated[Path, typer.Argument(help="A plan, .toml or .json.")],
    out: Annotated[Path, typer.Option(help="The directory to write. It must not exist.")],
    model: Annotated[
        str, typer.Option(envvar="CIRCUITS_MODEL", help="The model that the plan is for.")
    ] = "nano",
    as_json: AsJson = False,
) -> None:
    """Save a model with a plan's edits as a Hugging Face directory."""
    from circuits.cli.progress import shown_progress
    from circuits.edits.plan import read_plan
    from circuits.edits.save_model import save_edited
    from circuits.models import load_model, locate
    from circuits.output import guarded

    parsed = read_plan(plan)
    locate(model)
    with guarded(out), shown_progress() as progress:
        progress(0, 0, "opening the model")
        opened = load_model(model)
        progress(0, 0, "writing the edited model")
        save_edited(opened, parsed, out)
    if as_json:
        print_json({"written": str(out), "edits": len(parsed.edits)})
        return
    typer.echo(
        f"written: {out}, {counted(len(parsed.edits), 'edit')}; opens with transformers alone"
    )


@edits.command("check")
def check_plan(
    plan: Annotated[Path, typer.Argument(help="A plan, .toml or .json.")],
    model: Annotated[
        str,
        typer.Option(help="The model that the plan is for. Without it, only the file is checked."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List everything that is wrong with a plan, without changing anything."""
    from circuits.edits.plan import read_plan

    parsed = read_plan(plan)
    if model:
        from circuits.cli.progress import shown_progress
        from circuits.models import load_model, locate

        locate(model)
        with shown_progress() as progress:
            progress(0, 0, "opening the model")
            parsed.check(load_model(model))
    else:
        parsed.check()
    if as_json:
        print_json({"plan": str(plan), "edits": len(parsed.edits), "checked_with": model or None})
        return
    note = "" if model else "; give --model to check that they fit it"
    typer.echo(f"{plan}: {counted(len(parsed.edits), 'edit')}, nothing wrong{note}")


@edits.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of edit plans, for editors and other programs."""
    import json

    from circuits.edits.plan import plan_schema

    typer.echo(json.dumps(plan_schema(), indent=1))
