"""What a finished run found, on one screen: the rows of the table that `show` prints."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import FormatError, counted

if TYPE_CHECKING:
    from circuits.results.record import RunRecord


def summary_rows(record: RunRecord, folder: Path, files: Iterable[str]) -> dict[str, str]:
    """Label and value: what was asked, how, what the circuit keeps, and where it is."""
    circuit = record.circuit
    measured = _measured(record)
    if held_out := _held_out(folder):
        measured |= {"held out": held_out}
    else:
        measured["faithfulness"] += ": see 'circuits evaluate'"
    steps = (f"{step} {seconds:.1f}" for step, seconds in record.seconds.items())
    return {
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
