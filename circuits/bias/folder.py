"""The folder of a mitigation: complete, or not there.

report.json, report.md, report.svg    the report card
plan.json                             the chosen edits; not there where nothing helped
model/                                the edited model, for transformers
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.folder import make_ready, written
from tasks.errors import RunError

if TYPE_CHECKING:
    from circuits.bias.report_card import ReportCard
    from circuits.bias.search import Progress
    from circuits.bias.settings import Settings
    from patching.model import Model

KIND = "circuits report card"
REPORT = "report.json"
FILES = {REPORT, "report.md", "report.svg", "plan.json", "model"}


def check_out(folder: Path, force: bool = False) -> None:
    """Refuse, before anything is computed, a folder that must not be replaced.

    Raises:
        RunError: it holds something that is no mitigation, or a mitigation and `force` is not
            given; or nothing can be written there.
    """
    make_ready(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    _check_mitigation(folder)
    if not force:
        raise RunError(
            f"{folder} holds a mitigation already; choose another --out, or replace it with --force"
        )


def carry_out(
    model: Model,
    settings: Settings,
    out: Path,
    progress: Progress,
    original: Any = None,
    force: bool = False,
) -> ReportCard:
    """Find a mitigation, measure it, write everything; the report card.

    Raises:
        RunError: as for :func:`check_out`.
    """
    from circuits.bias.mitigate import find_mitigation
    from circuits.bias.plot import draw
    from circuits.bias.report import report_card
    from circuits.bias.report_text import page
    from circuits.edits.save_model import save_edited
    from graphs.files import write_json

    check_out(out, force)
    found = find_mitigation(model, settings, progress)
    card = report_card(model, found, progress)
    with written(out, _check_mitigation) as partial:
        if found.plan is not None:
            save_edited(model, found.plan, partial / "model", original)
            found.plan.save(partial / "plan.json")
        (partial / REPORT).write_text(write_json(card), encoding="utf-8")
        (partial / "report.md").write_text(page(card), encoding="utf-8")
        draw(card, partial / "report.svg")
    return card


def _check_mitigation(folder: Path) -> None:
    """Only a folder that holds a mitigation, and nothing but a mitigation, may be replaced."""
    if not folder.is_dir():
        raise RunError(f"{folder} is a file, not a folder; choose another --out")
    names = {entry.name for entry in folder.iterdir()}
    if names and not _is_ours(folder / REPORT):
        raise RunError(f"{folder} holds something that is no mitigation; choose another --out")
    if others := sorted(names - FILES):
        raise RunError(
            f"{folder} holds files beside its mitigation ({', '.join(others[:5])}); "
            f"move them away, or choose another --out"
        )


def _is_ours(path: Path) -> bool:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND
