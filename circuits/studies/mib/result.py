"""What the circuit track gave: a table of areas, published figures beside it, and its files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.evaluation.outcomes import undefined
from circuits.output import Output, write_json, written
from circuits.results.intervals import spelled
from circuits.results.report import Report, Reported
from circuits.results.tables import Table
from circuits.studies.mib.cells import PUBLISHED, Cell

if TYPE_CHECKING:
    import pandas as pd

    from circuits.evaluation.curves import Curve
    from patching.scores import Scores

REPORT, TABLE, SUBMISSION = "mib.json", "mib.csv", "importances.json"
SCHEMA_VERSION = "1.0"
OUTPUT = Output(
    "circuit track", REPORT, "circuits mib", re.compile(r"mib\.(json|csv)|submission-[\w.=+:,-]+")
)
EXPLAINED = (
    "CPR, the area under the curve of faithfulness over the share of edges kept (higher is "
    "better), ranks by signed score. CMD, the area between that curve and 1 (lower is better), "
    "ranks by absolute score, so the two do not belong to the same circuits. Half of either area "
    "lies between 50 and 100 % of the edges."
)
OTHERS = "CPR published for other models"


@dataclass(frozen=True)
class CellResult:
    """One task: of every method the curves by signed and by absolute score.

    n, test   prompts that edges were scored on, and others that circuits were measured on
    knows     share of the latter on which the model prefers the answer
    aurocs    by method, where a reference circuit was given
    scores    of every edge, by method
    why_not   why the task was left out; empty where it was not
    """

    cell: Cell
    n: int = 0
    test: int = 0
    knows: float | None = None
    curves: Mapping[str, tuple[Curve, Curve]] = field(default_factory=dict)
    aurocs: Mapping[str, float | None] = field(default_factory=dict)
    scores: Mapping[str, Scores] = field(default_factory=dict)
    why_not: str = ""

    @classmethod
    def refused(cls, cell: Cell, why: str, knows: float | None = None) -> CellResult:
        """A task that was left out."""
        return cls(cell, knows=knows, why_not=why)

    def rows(self, seed: int) -> Iterator[dict[str, Any]]:
        """Plain values, a method each; areas are None where faithfulness is undefined."""
        for method, (signed, absolute) in self.curves.items():
            yield {
                "task": self.cell.name,
                "method": method,
                "cpr": signed.area("cpr"),
                "cpr_interval": signed.interval("cpr", seed),
                "cmd": absolute.area("cmd"),
                "cmd_interval": absolute.interval("cmd", seed),
                "log_cmd": absolute.area("log_cmd"),
                "log_cmd_interval": absolute.interval("log_cmd", seed),
                "auroc": self.aurocs.get(method),
            }

    def to_json(self, seed: int) -> dict[str, Any]:
        """Plain values for a file."""
        return {
            "task": self.cell.name,
            "asked_as": self.cell.task,
            "n": self.n,
            "test": self.test,
            "knows": self.knows,
            "left_out": self.why_not or None,
            "areas": [*self.rows(seed)],
            "curves": [c.to_json(seed) for both in self.curves.values() for c in both],
        }


@dataclass(frozen=True)
class Track(Reported):
    """Every task of the track on one model; intervals (95 %) are over the prompts measured on."""

    model: str
    model_hash: str
    cells: tuple[CellResult, ...]
    methods: tuple[str, ...]
    seed: int = 0

    @property
    def done(self) -> tuple[CellResult, ...]:
        """The tasks that were not left out."""
        return tuple(cell for cell in self.cells if not cell.why_not)

    def to_frame(self) -> pd.DataFrame:
        """A row per task and method: areas with the ends of their intervals, AUROC."""
        import pandas as pd

        rows = []
        for row in (row for cell in self.done for row in cell.rows(self.seed)):
            flat = {name: value for name, value in row.items() if not name.endswith("_interval")}
            for name in ("cpr", "cmd", "log_cmd"):
                low, high = row[f"{name}_interval"] or (None, None)
                flat |= {f"{name}_low": low, f"{name}_high": high}
            rows.append(flat)
        return pd.DataFrame(rows)

    def tables(self) -> Iterator[Table]:
        """CPR and CMD by method and task, AUROC where there is one, and what was published."""
        names = [cell.cell.name for cell in self.done]
        measures = {"CPR": "cpr", "CMD": "cmd", "CMD over log size": "log_cmd"}
        by_cell = [{row["method"]: row for row in cell.rows(self.seed)} for cell in self.done]
        methods = list(by_cell[0]) if by_cell else []
        for title, key in measures.items():
            rows = [[m, *(_area(rows[m], key) for rows in by_cell)] for m in methods]
            yield Table([title, *names], rows)
        if any(cell.aurocs for cell in self.done):
            rows = [[m, *(_share(rows[m]["auroc"]) for rows in by_cell)] for m in methods]
            yield Table(["AUROC", *names], rows)
        if names:
            yield Table([OTHERS, *names], [*_published(names)])

    def report(self) -> Report:
        """What was measured, and what was left out and why."""
        counts = ", ".join(f"{c.cell.name} {c.n} and {c.test}" for c in self.done)
        words = f"{self.model}; prompts scored on and measured on: {counts}." if counts else ""
        left = [f"{c.cell.name} is left out: {c.why_not}." for c in self.cells if c.why_not]
        odd = [
            f"{c.cell.name}: {undefined(next(iter(c.curves.values()))[0].outcomes)}."
            for c in self.done
            if not next(iter(c.curves.values()))[0].outcomes.defined
        ]
        tables = [*self.tables()] if self.done else []
        return Report.of(words, *left, *odd, *tables, EXPLAINED if tables else "")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {
            "kind": OUTPUT.kind,
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "model_hash": self.model_hash,
            "seed": self.seed,
            "methods": list(self.methods),
            "tasks": [cell.to_json(self.seed) for cell in self.cells],
        }

    def write(self, folder: Path) -> list[Path]:
        """mib.json, mib.csv, and a folder of the benchmark's files per method.

        Raises:
            RunError: the folder holds something else.
        """
        with written(folder, OUTPUT.check) as partial:
            write_json(partial / REPORT, self.to_json())
            self.to_frame().to_csv(partial / TABLE, index=False)
            for cell in self.done:
                for method, scores in cell.scores.items():
                    home = partial / submission(method) / f"{cell.cell.name}_{_plain(self.model)}"
                    home.mkdir(parents=True)
                    (home / SUBMISSION).write_text(_importances(scores), encoding="utf-8")
        return [folder / name for name in files_of(self.methods)]

    def __repr__(self) -> str:
        names = ", ".join(cell.cell.name for cell in self.done) or "no task"
        return f"Track({self.model}: {names}; {', '.join((*self.methods, 'random'))})"


def files_of(methods: Sequence[str]) -> tuple[str, ...]:
    """What a track with these methods writes into its folder."""
    return (REPORT, TABLE, *map(submission, methods))


def submission(method: str) -> str:
    """The folder of a method's files."""
    return f"submission-{_plain(method)}"


def _plain(text: str) -> str:
    return re.sub(r"[^\w.=+:,-]+", "-", text)


def _importances(scores: Scores) -> str:
    """The score of every edge, as the benchmark reads it."""
    from graphs import from_scores
    from graphs.formats.mib import to_mib

    return to_mib(from_scores(scores, len(scores)), scores)


def _area(row: Mapping[str, Any], key: str) -> str:
    return "undefined" if row[key] is None else spelled(row[key], row[f"{key}_interval"], ".2f")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _published(names: list[str]) -> Iterator[list[str]]:
    """A row per method and model that has a figure for any of the tasks."""
    for method, by_task in PUBLISHED.items():
        models = dict.fromkeys(m for name in names for m in by_task.get(name, {}))
        for model in models:
            figures = (by_task.get(name, {}).get(model) for name in names)
            yield [f"{method}, {model}", *("" if f is None else f"{f:.2f}" for f in figures)]
