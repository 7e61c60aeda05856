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
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.output import Output, written

if TYPE_CHECKING:
    from circuits.studies.emotion.pipeline import Study

KIND = "circuits emotion"
REPORT = "report.json"
FILES = re.compile(
    r"(report\.(json|md)|circuit(-\d+)?\.json|(circuit|geometry|layers|control)\.svg"
    r"|directions\.safetensors)"
)
OUTPUT = Output("study", REPORT, KIND, FILES)


def write(folder: Path, found: Study) -> None:
    """Write report, circuits, directions and pictures; all of them or none.

    A study that is there gives way to this one.
    """
    from safetensors.numpy import save_file

    from circuits.studies.emotion.plot import draw_control, draw_geometry, draw_layers
    from circuits.studies.emotion.text import markdown

    with written(folder, OUTPUT.check) as partial:
        about = {
            "labels": json.dumps(found.directions.labels),
            "model": found.results["model_hash"],
        }
        tensors = {**found.directions.tensors(), "reference": found.reference.vectors}
        tensors |= found.readings.tensors(found.concept.labels)
        save_file(dict(tensors), partial / "directions.safetensors", metadata=about)
        found.whole.save(partial / "circuit.json")
        found.whole.draw(partial / "circuit.svg")
        for number, graph in enumerate(found.graphs.values()):
            graph.save(partial / f"circuit-{number}.json")
        draw_geometry(found, partial / "geometry.svg")
        draw_layers(found, partial / "layers.svg")
        draw_control(found, partial / "control.svg")
        report = json.dumps({"kind": KIND, **found.results}, indent=2, ensure_ascii=False)
        (partial / REPORT).write_text(report + "\n", encoding="utf-8")
        (partial / "report.md").write_text(markdown(found.results), encoding="utf-8")
