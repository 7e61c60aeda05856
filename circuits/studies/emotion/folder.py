"""The folder of a study: complete or absent, never half-written.

report.json, report.md      what was found, for programs and for readers
circuit.json, circuit.svg   the circuit of all labels together
circuit-0.json ...          the circuit of each label, in the report's order
directions.safetensors      directions, differences of components, and the probes' weights
geometry.svg                cosines between directions
layers.svg                  probes, stability and influence by layer
control.svg                 strengths tried, and every condition of control
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.output import Output, written
from tasks.errors import MethodError, unknown

if TYPE_CHECKING:
    from circuits.clock import Progress
    from circuits.studies.emotion.pipeline import Study
    from circuits.studies.emotion.prompts import Concept

KIND = "circuits emotion"
REPORT = "report.json"
FILES = re.compile(
    r"(report\.(json|md)|circuit(-\d+)?\.json|(circuit|geometry|layers|control)\.svg"
    r"|directions\.safetensors)"
)
OUTPUT = Output("study", REPORT, KIND, FILES)


def emotion(
    model: Any = "nano",
    out: str | Path | None = None,
    prompts: str | Path | Concept | None = None,
    *,
    opening: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Study:
    """Find and drive the circuits with which a model shows the emotion it is asked to show.

    ``prompts`` is a JSON file of labels and prompts, or a :class:`Concept`; by default the emotions
    of the task ``emotion``, whose replies are begun with ``opening``. ``settings`` are fields of
    :class:`circuits.studies.emotion.settings.Settings`. With ``out`` the study is written there:
    report, circuits, directions and pictures. After Wang et al. 2025, arXiv 2510.11328.

    >>> circuits.emotion(model, groups=2, tests=2, tuning=1, draws=1, new_tokens=2)
    Study(emotion: 9 conditions of control, CircuitGraph(emotion ...))

    Raises:
        MethodError: settings that cannot be used, all of them listed.
        RunError: a folder that exists and may not be replaced.
        CircuitsError: before the long part starts, where the model or the prompts do not fit.
    """
    from circuits.models import check_chat, load_model, name_of
    from circuits.studies.emotion.pipeline import study
    from circuits.studies.emotion.prompts import Concept, emotions, read_concept
    from circuits.studies.emotion.settings import Settings

    if odd := sorted(set(settings) - {field.name for field in fields(Settings)}):
        raise MethodError(unknown("setting", odd[0], [field.name for field in fields(Settings)]))
    chosen = Settings(**settings)
    if isinstance(model, str | Path):
        check_chat(str(model), chosen.chat)
    if isinstance(prompts, Concept):
        concept = prompts
    else:
        concept = read_concept(Path(prompts)) if prompts else emotions(opening)
    with OUTPUT.reserved(None if out is None else Path(out), force):
        opened = load_model(model)
        result = study(opened, concept, chosen, progress, name_of(opened.path))
        if out is not None:
            write(Path(out), result)
    return result


def write(folder: Path, study: Study) -> None:
    """Write report, circuits, directions and pictures; all of them or none.

    A study that is there gives way to this one.
    """
    from safetensors.numpy import save_file

    from circuits.results.pictures import save
    from circuits.studies.emotion import plot
    from circuits.studies.emotion.text import page

    with written(folder, OUTPUT.check) as partial:
        about = {
            "labels": json.dumps(study.directions.labels),
            "model": study.results["model_hash"],
        }
        tensors = {**study.directions.tensors(), "reference": study.reference.vectors}
        tensors |= study.readings.tensors(study.concept.labels)
        save_file(dict(tensors), partial / "directions.safetensors", metadata=about)
        study.whole.save(partial / "circuit.json")
        study.whole.draw(partial / "circuit.svg")
        for number, graph in enumerate(study.graphs.values()):
            graph.save(partial / f"circuit-{number}.json")
        for draw in (plot.geometry, plot.layers, plot.control):
            save(draw(study), partial / f"{draw.__name__}.svg")
        report = json.dumps({"kind": KIND, **study.results}, indent=2, ensure_ascii=False)
        (partial / REPORT).write_text(report + "\n", encoding="utf-8")
        (partial / "report.md").write_text(page(study.results).markdown(), encoding="utf-8")
