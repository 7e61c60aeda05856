"""All cells of a sweep in one table: what each found, or why it failed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.folder import read_held_out
from circuits.results.record import RECORD, read_record
from circuits.results.report import Report, Reported
from circuits.results.tables import Table, harmless
from circuits.sweeps.grid import Cell
from tasks.atomic import write_atomically
from tasks.errors import FormatError, counted

if TYPE_CHECKING:
    import pandas as pd

KIND = "circuits sweep"
JSON, MARKDOWN, PAGE = "sweep.json", "sweep.md", "sweep.html"
DONE, FAILED, MISSING = "done", "failed", "missing"


@dataclass(frozen=True)
class Row:
    """One cell: where it is, what was asked, and what came out.

    state         done, failed or missing
    fault         why it failed
    full, empty, circuit   the metric of the whole model, of nothing, and of the circuit alone
    faithfulness  on the prompts that the circuit was found on, with a 95 % interval
    held_out      faithfulness on other prompts, where that was measured
    """

    cell: str
    model: str
    task: str
    method: str
    seed: int
    state: str
    fault: str = ""
    prompts: int | None = None
    nodes: int | None = None
    edges: int | None = None
    full: float | None = None
    empty: float | None = None
    circuit: float | None = None
    faithfulness: float | None = None
    interval: tuple[float, float] | None = None
    held_out: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, repr=False)
class SweepTable(Reported):
    """The rows of all cells, in the order of the sweep's file."""

    rows: tuple[Row, ...]

    @property
    def failed(self) -> tuple[Row, ...]:
        """Cells that are not complete."""
        return tuple(row for row in self.rows if row.state != DONE)

    def __repr__(self) -> str:
        return f"SweepTable({len(self.rows) - len(self.failed)} of {len(self.rows)} cells)"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"kind": KIND, "cells": [asdict(row) for row in self.rows]}

    def to_frame(self) -> pd.DataFrame:
        """A row for every cell."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows]).set_index("cell")

    def report(self) -> Report:
        """The table, with the reasons of failures below it."""
        return self._report(str)

    def _report(self, shown: Any) -> Report:
        head = ["cell", "prompts", "nodes", "edges", "faithfulness", "held out", "seconds"]
        rows = [[shown(row.cell), *_numbers(row)] for row in self.rows]
        done = len(self.rows) - len(self.failed)
        title = f"{done} of {counted(len(self.rows), 'cell')} are complete"
        faults = [
            f"{shown(row.cell)} {row.state}: {shown(row.fault)}" for row in self.failed if row.fault
        ]
        return Report.of(title, Table(head, rows), "\n".join(faults))

    def save(self, out: Path) -> None:
        """Write sweep.json, sweep.md and sweep.html into a folder."""
        data = json.dumps(self.to_json(), indent=2, allow_nan=False, ensure_ascii=False)
        write_atomically(out / JSON, f"{data}\n".encode())
        write_atomically(out / MARKDOWN, self._report(harmless).markdown().encode())
        write_atomically(out / PAGE, self.page().encode())

    def page(self) -> str:
        """One page with nothing to load; complete cells link to their circuits' pages."""
        body = self.report().html()
        for row in self.rows:
            if row.state == DONE:
                name = escape(row.cell)
                link = f'<a href="{name}/circuit.html">{name}</a>'
                body = body.replace(f">{name}</td>", f">{link}</td>")
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sweep</title>'
            f"<style>{STYLE}</style></head><body><h1>Sweep</h1>{body}</body></html>\n"
        )


STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}"
    "td,th{padding:.2rem .8rem .2rem 0;text-align:right}p{white-space:pre-wrap}"
)


def _numbers(row: Row) -> list[str]:
    if row.state != DONE:
        return [row.state, "", "", "", "", ""]
    ends = "" if row.interval is None else " ({:.1%} to {:.1%})".format(*row.interval)
    share = "undefined" if row.faithfulness is None else f"{row.faithfulness:.1%}{ends}"
    held_out = "" if row.held_out is None else f"{row.held_out:.1%}"
    counts = [str(row.prompts), str(row.nodes), str(row.edges)]
    return [*counts, share, held_out, f"{row.seconds or 0.0:.1f}"]


def joined(cells: Sequence[Cell], out: Path, faults: Mapping[str, str]) -> SweepTable:
    """The table of a sweep: of run folders that are there, and why others are not."""
    return SweepTable(tuple(_row(cell, out / cell.name, faults.get(cell.name)) for cell in cells))


def _row(cell: Cell, folder: Path, fault: str | None) -> Row:
    config = cell.config
    what = cell.name, config.model or "", config.task or "", config.method, config.seed
    if fault:
        return Row(*what, FAILED, fault)
    try:
        record = read_record(folder / RECORD)
    except FormatError:
        return Row(*what, MISSING)
    found, held_out = record.evaluation, read_held_out(folder)
    return Row(
        *what,
        DONE,
        prompts=record.prompts.n,
        nodes=record.circuit.nodes,
        edges=record.circuit.edges,
        full=found.full,
        empty=found.empty,
        circuit=found.circuit,
        faithfulness=found.faithfulness,
        interval=found.interval,
        held_out=None if held_out is None else held_out.faithfulness,
        seconds=sum(record.seconds.values()),
    )
