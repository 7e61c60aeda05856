"""The folder of a mitigation: complete, or not there.

report.json, report.md, report.svg    the report card
plan.json                             the chosen edits; not there where nothing helped
model/                                the edited model, for transformers
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from circuits.bias.mitigate import Settings, find_mitigation
from circuits.bias.report import report_card
from circuits.bias.report_text import draw, page
from circuits.edits.save_model import save_edited
from graphs.files import write_json
from patching.model import Model
from tasks.errors import EditError


def carry_out(
    model: Model,
    settings: Settings,
    out: Path,
    progress: Callable[[int, int, str], None],
    original: Any = None,
) -> dict[str, Any]:
    """Find a mitigation, measure it, write everything; the report card.

    Raises:
        EditError: the folder exists already and is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EditError(f"{out} exists already; choose another --out")
    found = find_mitigation(model, settings, progress)
    card = report_card(model, found, progress)
    partial = out.resolve().with_name(f".{out.resolve().name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        if found.plan is not None:
            save_edited(model, found.plan, partial / "model", original)
            found.plan.save(partial / "plan.json")
        (partial / "report.json").write_text(write_json(card), encoding="utf-8")
        (partial / "report.md").write_text(page(card), encoding="utf-8")
        draw(card, partial / "report.svg")
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return card
