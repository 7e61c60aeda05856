"""The folder of a mitigation: complete, or not there.

report.json, report.md, report.svg    the report card
plan.json                             the chosen edits; not there where nothing helped
model/                                the edited model, for transformers
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.output import Output, written

if TYPE_CHECKING:
    from circuits.studies.bias.mitigate import Material
    from circuits.studies.bias.report_card import ReportCard
    from circuits.studies.bias.settings import Settings
    from patching.model import Model
    from patching.progress import Progress

KIND = "circuits report card"
REPORT = "report.json"
OUTPUT = Output("mitigation", REPORT, KIND, re.compile(r"report\.(json|md|svg)|plan\.json|model"))


def mitigate(
    model: Any = "nano",
    out: str | Path | None = None,
    *,
    train: int = 48,
    test: int = 400,
    seed: int = 0,
    file: str | Path = "",
    others: int = 100,
    recipes: Sequence[str] = (),
    force: bool = False,
) -> ReportCard:
    """Find a permanent edit against a bias towards 'A', measure it, and save the edited model.

    No right answer is used to choose it: it is the one under which every question is answered alike
    in all orders of its options with the letters in balance, other tasks and text left alone. The
    report card compares it on held-out questions with no edit, PriDe, other recipes and controls.
    With ``out`` it is written there, with the plan and the edited model beside it; where nothing is
    surely better than doing nothing, no model is.

    >>> card = circuits.mitigate(model, train=8, test=40, others=8, recipes=["least squares"])
    >>> card.chosen
    'least squares'
    >>> round(card.value("no edit", "A share, gold not A"), 1), round(
    ...     card.value("least squares", "A share, gold not A"), 1
    ... )
    (0.8, 0.0)

    Raises:
        TaskError: settings that cannot be used, all of them listed.
        RunError: a folder that exists and may not be replaced.
    """
    from circuits.models import load_model
    from circuits.studies.bias.mitigate import find_mitigation, unseen
    from circuits.studies.bias.report import report_card
    from circuits.studies.bias.settings import Settings

    settings = Settings(train, test, seed, str(file), others, tuple(recipes))
    if out is not None:
        OUTPUT.prepare(Path(out), force)
    opened = load_model(model)
    if out is None:
        return report_card(opened, find_mitigation(opened, settings))
    return carry_out(opened, settings, Path(out), unseen, force)


def carry_out(
    model: Model,
    settings: Settings,
    out: Path,
    progress: Progress,
    force: bool = False,
    material: Material | None = None,
) -> ReportCard:
    """Find a mitigation, measure it, write everything; the report card.

    ``material`` is that of the settings where it is drawn already.

    Raises:
        RunError: as for :meth:`circuits.output.Output.prepare`.
    """
    from circuits.edits.save_model import save_edited
    from circuits.studies.bias.mitigate import find_mitigation
    from circuits.studies.bias.plot import draw
    from circuits.studies.bias.report import report_card
    from circuits.studies.bias.report_text import page
    from graphs.files import write_json

    OUTPUT.prepare(out, force)
    found = find_mitigation(model, settings, progress, material)
    card = report_card(model, found, progress)
    with written(out, OUTPUT.check) as partial:
        if found.plan is not None:
            save_edited(model, found.plan, partial / "model")
            found.plan.save(partial / "plan.json")
        (partial / REPORT).write_text(write_json(card), encoding="utf-8")
        (partial / "report.md").write_text(page(card), encoding="utf-8")
        draw(card, partial / "report.svg")
    return card
