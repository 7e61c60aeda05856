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
from circuits.studies.bias.report_card import KIND

if TYPE_CHECKING:
    from circuits.studies.bias.mitigate import Material
    from circuits.studies.bias.report_card import ReportCard
    from circuits.studies.bias.settings import Settings
    from patching.model import Model
    from patching.progress import Progress

REPORT = "report.json"
OUTPUT = Output("mitigation", REPORT, KIND, re.compile(r"report\.(json|md|svg)|plan\.json|model"))


def mitigate(
    model: Any = "nano",
    out: str | Path | None = None,
    *,
    train: int = 48,
    test: int | None = None,
    seed: int = 0,
    file: str | Path = "",
    others: int = 100,
    recipes: Sequence[str] = (),
    skip_bad: bool = False,
    bos: bool | None = None,
    chat: bool | str = "",
    force: bool = False,
) -> ReportCard:
    """Find a permanent edit against a bias towards 'A', measure it, and save the edited model.

    No right answer is used to choose it. It is the edit under which every question gets the same
    answer in all orders of its options, all letters are chosen equally often, and other tasks and
    text stay as they are. The report card compares it on held-out questions with no edit, PriDe,
    other recipes and controls. ``file`` holds questions of your own (:mod:`tasks.mcq_files`), of
    which ``train`` and ``test`` are taken (``test`` is 400, or 200 or 100 for large models);
    ``others`` are prompts of other tasks. ``recipes`` names those to try, by default all. With
    ``out`` it is written there, with the plan and the edited model beside it; where nothing is
    surely better than doing nothing, no model is. ``bos`` and ``chat`` say how the questions are
    put to the model: see :meth:`tasks.base.Task.pairs`.

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
    from tasks.chat import form_of

    given = train, test, seed, str(file), others, tuple(recipes), skip_bad, bos, form_of(chat)
    settings = Settings(*given)
    if out is None:
        opened = load_model(model)
        return report_card(opened, find_mitigation(opened, settings))
    with OUTPUT.reserved(Path(out), force):
        return carry_out(load_model(model), settings, Path(out), unseen)


def carry_out(
    model: Model,
    settings: Settings,
    out: Path,
    progress: Progress,
    material: Material | None = None,
) -> ReportCard:
    """Find a mitigation, measure it, write everything; the report card.

    ``material`` is that of the settings where it is drawn already.

    Raises:
        RunError: as for :func:`circuits.output.written`.
    """
    from circuits.edits.save_model import save_edited
    from circuits.results.pictures import save
    from circuits.studies.bias.mitigate import find_mitigation
    from circuits.studies.bias.plot import draw
    from circuits.studies.bias.report import report_card
    from circuits.studies.bias.report_text import page
    from graphs.files import write_json

    mitigation = find_mitigation(model, settings, progress, material)
    card = report_card(model, mitigation, progress)
    with written(out, OUTPUT.check) as partial:
        if mitigation.plan is not None:
            save_edited(model, mitigation.plan, partial / "model")
            mitigation.plan.save(partial / "plan.json")
        (partial / REPORT).write_text(write_json(card), encoding="utf-8")
        (partial / "report.md").write_text(page(card).markdown(), encoding="utf-8")
        save(draw(card), partial / "report.svg")
    return card
