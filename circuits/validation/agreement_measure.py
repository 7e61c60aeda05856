"""Measure how every estimate agrees with exact patching on the embedded model.

``python -m circuits.validation.agreement_measure [PAGE ...]`` writes ``agreement.json`` into
the package, and the table of agreement into the files named. No number of either is written by
hand; on one machine the same model gives the same file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from textwrap import fill
from typing import Any

from circuits.models import fingerprint, load_model
from circuits.results.intervals import Estimate
from circuits.validation.agreement import LEVELS, agreement_table, measured, measured_on
from circuits.validation.result import Validation
from circuits.validation.validation import DIRECTIONS, validate
from graphs.files import write_json
from patching.methods import METHODS
from tasks.atomic import write_atomically
from tasks.errors import FormatError

MODEL, TASKS = "nano", ("ioi", "mcq_bias", "mental_math", "emotion")
PAIRS, SEED, WIDTH = 32, 0, 100
KIND, SCHEMA_VERSION = "circuits agreement", "2.0"
EVERY = 10**9
"""More sites than there are: none are drawn."""
TABLE = re.compile(
    r"^Agreement measured:.*\n(?:.+\n)*\n\| how far to trust it \|.*\n(?:\|.*\n)+", re.MULTILINE
)


def main(pages: Sequence[str]) -> None:
    """Measure, write the file, and renew the table in every page."""
    path = Path(str(files("circuits.validation") / "agreement.json"))
    write_atomically(path, write_json(measure()).encode())
    measured.cache_clear()
    for page in pages:
        text = Path(page).read_text(encoding="utf-8")
        write_atomically(page, renewed(text, page).encode())


def measure(
    model: str = MODEL, tasks: Sequence[str] = TASKS, n: int = PAIRS, seed: int = SEED
) -> dict[str, Any]:
    """The content of the file."""
    from tasks import get

    opened = load_model(model)
    estimates = [name for name, method in METHODS.items() if method.tier == "estimate"]
    rows: list[dict[str, Any]] = []
    effects = {}
    for task in tasks:
        pairs = get(task).pairs(opened.tokenizer, n=n, seed=seed)
        validation = validate(
            opened, pairs, estimates, LEVELS, directions=DIRECTIONS, sites=EVERY, seed=seed
        )
        rows += _rows(task, validation)
        effects[task] = validation.total_effect
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "model": model,
        "files": fingerprint(model),
        "n": n,
        "seed": seed,
        "tasks": list(tasks),
        "total_effect": effects,
        "rows": rows,
    }


def _rows(task: str, validation: Validation) -> Iterator[dict[str, Any]]:
    for c in validation.comparisons:
        yield {
            "task": task,
            "level": c.kind,
            "direction": c.direction,
            "method": c.method,
            **{name: _rounded(measure) for name, measure in c.measures.items()},
        }


def _rounded(measure: Estimate) -> dict[str, Any]:
    ends = measure.interval and (round(measure.low, 4), round(measure.high, 4))
    return replace(measure, value=round(measure.value, 4), interval=ends).to_json()


def renewed(text: str, name: str = "the page") -> str:
    """The text with its table of agreement, and the line that says what of, as they were measured.

    Raises:
        FormatError: there is no such table in it, or more than one.
    """
    lines = [fill(f"Agreement measured: {measured_on()}.", WIDTH), "", *agreement_table(), ""]
    page, count = TABLE.subn(lambda _: "\n".join(lines), text)
    if count != 1:
        raise FormatError(
            f"{name} has {count} paragraphs 'Agreement measured:' with a table of agreement; "
            f"give one"
        )
    return page


if __name__ == "__main__":
    main(sys.argv[1:])
