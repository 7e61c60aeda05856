"""The folder of a study: complete or absent, never half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.folder import written
from tasks.errors import RunError

if TYPE_CHECKING:
    from circuits.emotion import Study

KIND = "circuits emotion"


def check_new(folder: Path) -> None:
    """Refuse, before anything is computed, a folder that holds something.

    Raises:
        RunError: it is a file, or not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} holds something already; choose another --out")


def write(folder: Path, found: Study) -> None:
    """Write report, circuits, directions and pictures; all of them or none."""
    from safetensors.numpy import save_file

    from circuits.emotion_plot import draw_geometry, draw_layers
    from circuits.emotion_text import markdown

    check_new(folder)
    with written(folder) as partial:
        about = {"labels": json.dumps(found.directions.labels), "model": found.facts["model_hash"]}
        tensors = {**found.directions.tensors(), "reference": found.reference.vectors}
        save_file(dict(tensors), partial / "directions.safetensors", metadata=about)
        found.whole.save(partial / "circuit.json")
        found.whole.draw(partial / "circuit.svg")
        for number, graph in enumerate(found.graphs.values()):
            graph.save(partial / f"circuit-{number}.json")
        draw_geometry(found, partial / "geometry.svg")
        draw_layers(found, partial / "layers.svg")
        report = json.dumps({"kind": KIND, **found.facts}, indent=2, ensure_ascii=False)
        (partial / "report.json").write_text(report + "\n", encoding="utf-8")
        (partial / "report.md").write_text(markdown(found.facts), encoding="utf-8")
