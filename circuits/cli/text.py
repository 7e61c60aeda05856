"""What the command line prints: lists of what there is, and the summary of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from circuits.cli.printing import cell, grid, print_grid, print_rows, print_scores
from tasks.errors import FormatError, counted

if TYPE_CHECKING:
    from circuits.results.record import RunRecord

Row = Mapping[str, Any]


def task_rows() -> list[Row]:
    """Every task with its claim."""
    import tasks

    return [
        {
            "name": name,
            "asks": task.claim,
            "metric": task.metric,
            **_options(task.options),
            "reference": task.reference,
        }
        for name, task in ((name, tasks.get(name)) for name in tasks.names())
    ]


def method_rows() -> list[Row]:
    """Every method with its claim, its cost and how far it is trusted."""
    from patching.methods import METHODS

    return [
        {
            "name": method.name,
            "computes": method.claim,
            "costs": method.cost,
            "tier": method.tier,
            "where experts differ": method.router,
            **_options(method.options),
            "reference": method.reference,
        }
        for method in METHODS.values()
    ]


def agreement_rows() -> list[Row]:
    """Every method with what it assumes, and how well it agreed with exact patching."""
    from circuits.validation.agreement import GROUNDS, agreement

    return [
        {
            "name": name,
            "assumes": row.assumes,
            "checked against": row.checked,
            "agrees with the exact effect": agreement(name),
        }
        for name, row in GROUNDS.items()
    ]


def selector_rows() -> list[Row]:
    """Every selector of circuits, with its options and their defaults."""
    from circuits.selectors import SELECTORS

    return [
        {
            "name": selector.name,
            "keeps": selector.claim,
            "costs": selector.cost,
            "among": " or ".join(f"{level}s" for level in selector.levels),
            **_options(selector.options),
            "reference": selector.reference,
        }
        for selector in SELECTORS.values()
    ]


def ablation_rows() -> list[Row]:
    """Every ablation, how it is written, and where it can be used."""
    from patching.ablation.kinds import ABLATIONS, CUTS, OUTSIDE

    rows: list[Row] = []
    for name, kind in ABLATIONS.items():
        written = name if not kind.argument else f"{name}:N with a {kind.argument} N"
        if kind.default is not None:
            written = f"{name}, or {written}"
        where = "outside a circuit, or for named parts" if name in OUTSIDE else "ablate"
        rows.append({"name": name, "puts there": kind.claim, "written": written, "use": where})
    for name, claim in CUTS.items():
        written = f"{name}:3, {name}:3-5 (layers) or {name}:3.h1 (one head)"
        rows.append({"name": name, "cuts": claim, "written": written, "use": "ablate"})
    return rows


def _options(options: Mapping[str, Any]) -> Row:
    """The options of a task, a method or a way, by name; nothing where there are none."""
    about = {}
    for name, option in options.items():
        allowed = getattr(option, "choices", ()) or getattr(option, "allowed", ())
        about[name] = {"default": option.default, "help": option.help}
        about[name] |= {"choices": list(allowed)} if allowed else {}
    return {"options": about} if about else {}


def _option(name: str, option: Row) -> str:
    """An option with its default, what it means, and what it may be if that is not said there."""
    choices = [str(choice) for choice in option.get("choices", ())]
    listed = f" ({', '.join(choices)})" if any(c not in option["help"] for c in choices) else ""
    return f"{name}={_plain(option['default'])}: {option['help']}{listed}"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def print_list(rows: list[Row], as_json: bool) -> None:
    """Every row with its name, its claim, and the rest below; or a JSON array of objects."""
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = grid(header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, claim, *rest in (row.items() for row in rows):
        table.add_row(cell(name[1]), cell(claim[1]))
        for label, value in rest:
            if label == "reference":
                continue
            lines = [f"{label}: {value}"]
            if label == "options":
                lines = [_option(option, about) for option, about in value.items()]
            for line in lines:
                table.add_row("", cell(line, style="dim"))
    print_grid(table)


def print_summary(record: RunRecord, folder: Path, files: Iterable[str], note: str = "") -> None:
    """What a run found, and where it is."""
    circuit = record.circuit
    measured = _measured(record)
    if held_out := _held_out(folder):
        measured |= {"held out": held_out}
    else:
        measured["faithfulness"] += ": see 'circuits evaluate'"
    steps = (f"{step} {seconds:.1f}" for step, seconds in record.seconds.items())
    rows = {
        "task": f"{record.prompts.task}, {counted(record.prompts.n, 'prompt pair')}",
        **({"note": "\n".join(record.prompts.notes)} if record.prompts.notes else {}),
        "model": record.model.description or record.model.name,
        "method": f"{record.config['method']}, {record.config['direction']}",
        **_known(record),
        **measured,
        **_experts(record),
        **({"enough": record.enough.told} if record.enough else {}),
        "circuit": f"{counted(circuit.nodes, 'node')}, {counted(circuit.edges, 'edge')} "
        f"({circuit.selection})",
        "time": f"{sum(record.seconds.values()):.1f} s ({', '.join(steps)})",
        "written": f"{folder} ({', '.join(files)})",
    }
    print_rows(rows)
    if circuit.strongest:
        print_scores("strongest", [(item.name, item.score) for item in circuit.strongest])
    else:
        typer.echo(
            "Nothing is left: no way from the input to the logits is among what was chosen. Keep "
            "more (--top), or only what connects (--select top, or greedy)."
        )
    if note:
        typer.echo(note)


def _experts(record: RunRecord) -> dict[str, str]:
    """How often both runs choose the same experts, and what the methods make of the rest."""
    from patching.methods import get
    from patching.written import parted

    if record.experts is None:
        return {}
    methods = [get(parted(text)[0]) for text in record.config["method"].split(",")]
    made = "; ".join(f"{method.name} {method.router}" for method in methods)
    return {"experts": f"{record.experts.told}; where they differ, {made}"}


def _known(record: RunRecord) -> dict[str, str]:
    """How many pairs the model knows, where that was looked at."""
    from circuits.knowledge import describe_known

    known = record.prompts.known
    return {} if known is None else {"known": describe_known(known.model_dump())}


def _measured(record: RunRecord) -> dict[str, str]:
    from circuits.evaluate import empty_label
    from circuits.results.intervals import verdict

    seen = record.evaluation
    return {
        seen.metric: (
            f"clean {seen.full:+.3f}, {empty_label(seen.ablation)} {seen.empty:+.3f}, "
            f"circuit {seen.circuit:+.3f}"
        ),
        "faithfulness": f"{verdict(seen.faithfulness, seen.interval)}, on the prompts it was "
        "found on",
    }


def _held_out(folder: Path) -> str:
    """What `circuits evaluate` has measured of a run on other prompts; empty before that."""
    from circuits.folder import read_held_out
    from circuits.results.intervals import verdict

    try:
        seen = read_held_out(folder)
    except FormatError as fault:
        return str(fault)
    if seen is None:
        return ""
    share = verdict(seen.faithfulness, seen.interval)
    return f"{share}, on {counted(seen.n, 'prompt pair')}, {seen.ablation} outside"
