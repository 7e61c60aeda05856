"""The folder of a validation: its numbers as JSON and as a table, and the picture."""

from __future__ import annotations

import json
import re
from pathlib import Path

from circuits.output import Output, written
from circuits.validation.result import Validation

OUTPUT = Output(
    "validation",
    "validation.json",
    "circuits validation",
    re.compile(r"validation\.(json|csv|svg)"),
)


def write(validation: Validation, out: Path) -> None:
    """Write all files; either they are all there afterwards, or nothing has changed."""
    from circuits.results.pictures import save
    from circuits.validation.plot import scatter

    with written(out, OUTPUT.check) as partial:
        text = json.dumps(validation.to_json(), indent=1, allow_nan=False)
        (partial / "validation.json").write_text(text + "\n", encoding="utf-8")
        validation.to_frame().to_csv(partial / "validation.csv", index=False)
        save(scatter(validation), partial / "validation.svg")
