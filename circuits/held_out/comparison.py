"""Several runs on the same prompts: whose scores rank edges better, and by how much."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.evaluate import edges_of
from circuits.evaluation.areas import KINDS
from circuits.evaluation.curves import BEST, RANKINGS, Curve, distinct, plan, run_plans
from circuits.evaluation.outcomes import Outcomes, measure, undefined
from circuits.evaluation.plot_curves import CURVES as ALT
from circuits.evaluation.plot_curves import draw
from circuits.evaluation.running import Running
from circuits.folder import CURVES
from circuits.held_out.breakdown import Breakdown
from circuits.held_out.rediscovery import Rediscovery, spread_text
from circuits.held_out.run import Run, describe, fresh_prompts
from circuits.held_out.terms import Terms
from circuits.output import Output, write_json, written
from circuits.results.intervals import Ends, percentiles
from circuits.results.pictures import save
from circuits.results.report import Picture, Report, Reported
from circuits.results.tables import Table
from tasks.errors import RunError, all_faults

if TYPE_CHECKING:
    import pandas as pd

    from circuits.clock import Progress
    from patching.journal import Journal
    from patching.model import Model
    from tasks import PromptPairs

Gap = tuple[float, Ends]

REPORT = "comparison.json"
OUTPUT = Output(
    "comparison", REPORT, "circuits comparison", re.compile(rf"comparison\.json|{CURVES}")
)


@dataclass(frozen=True)
class Comparison(Reported):
    """Runs beside each other; the first is the yardstick.

    ``curves`` has two per run, signed and absolute, ``outcomes`` one circuit per run. ``gaps`` are
    each later run's area minus the first one's, with a paired bootstrap interval.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    outcomes: Outcomes
    curves: tuple[Curve, ...]
    overlap: tuple[float, ...]
    gaps: tuple[dict[str, Gap], ...]
    described: dict[str, Any]
    seed: int = 0
    rediscoveries: tuple[Rediscovery, ...] = ()
    breakdown: Breakdown | None = None

    def curve(self, run: int, ranking: str) -> Curve:
        """One run's curve."""
        return self.curves[2 * run + RANKINGS.index(ranking)]

    def table(self) -> Table:
        """A row per run."""
        titles = ["run", "edges", "faithfulness", "CPR", "CMD", "log CPR", "log CMD", "Jaccard"]
        rows = []
        for i, name in enumerate(self.names):
            cells = ["undefined"] * 5
            if self.outcomes.defined:
                cells = [f"{self.outcomes.faithfulness[i]:.1%}"]
                cells += [self._cell(i, kind) for kind in KINDS_SHOWN]
            rows.append([name, str(self.sizes[i]), *cells, f"{self.overlap[i]:.2f}"])
        if not self.outcomes.defined:
            rows.append([undefined(self.outcomes), *[""] * 7])
        return Table(titles, rows)

    def redrawn(self) -> list[Table]:
        """A row per run: what other draws of its prompts would have given, where asked for."""
        if not self.rediscoveries:
            return []
        titles = ["prompts redrawn", *KINDS_REDRAWN, "found again"]
        rows = []
        for name, again in zip(self.names, self.rediscoveries, strict=True):
            spreads = [spread_text(again.faithfulness, percent=True)]
            spreads += [spread_text(again.areas[kind]) for kind in ("cpr", "cmd")]
            rows.append([name, *spreads, "" if again.kept is None else f"{again.kept:.1%}"])
        return [Table(titles, rows)]

    def tables(self) -> list[Table]:
        """Runs, what other draws would have given, and groups of prompts where asked for."""
        groups = [] if self.breakdown is None else [self.breakdown.table()]
        return [self.table(), *self.redrawn(), *groups]

    def to_frame(self) -> pd.DataFrame:
        """One row per run; areas are NaN where faithfulness is undefined."""
        import pandas as pd

        columns: dict[str, Any] = {"edges": self.sizes}
        columns["faithfulness"] = self.outcomes.faithfulness
        runs = range(len(self.names))
        for kind in KINDS_SHOWN:
            areas = [self.curve(i, BEST[kind]).area(kind) if self.curves else None for i in runs]
            columns[kind] = pd.array(areas, dtype=float)
        columns["jaccard"] = self.overlap
        return pd.DataFrame(columns, index=pd.Index(self.names, name="run"))

    def __repr__(self) -> str:
        return f"Comparison({', '.join(self.names)} on {self.outcomes.n} prompts)"

    def report(self) -> Report:
        """The curves, and the table of runs."""
        curves = [Picture(lambda: draw(self.curves), ALT)] if self.curves else []
        return Report.of(*curves, *self.tables())

    def _cell(self, run: int, kind: str) -> str:
        area = self.curve(run, BEST[kind]).area(kind)
        if not run or kind not in self.gaps[run]:
            return f"{area:.3f}"
        gap, (low, high) = self.gaps[run][kind]
        return f"{area:.3f} ({gap:+.3f}, {low:+.3f} to {high:+.3f})"

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        runs = [
            {
                "name": name,
                "edges": self.sizes[i],
                "faithfulness": float(self.outcomes.faithfulness[i]) if self.curves else None,
                "jaccard_with_first": self.overlap[i],
                "curves": [curve.to_json(self.seed) for curve in self.curves[2 * i : 2 * i + 2]],
                "gaps_to_first": self.gaps[i] if self.gaps else {},
                "rediscoveries": self.rediscoveries[i].to_json() if self.rediscoveries else None,
            }
            for i, name in enumerate(self.names)
        ]
        groups = None if self.breakdown is None else self.breakdown.to_json()
        return self.described | {"kind": OUTPUT.kind, "runs": runs, "breakdown": groups}

    def write(self, folder: Path) -> list[Path]:
        """comparison.json, and curves.svg where there are curves, in a folder of their own.

        A comparison that is there gives way to this one.

        Raises:
            RunError: the folder holds something else.
        """
        names = [REPORT, CURVES] if self.curves else [REPORT]
        with written(folder, OUTPUT.check) as partial:
            write_json(partial / REPORT, self.to_json())
            if self.curves:
                save(draw(self.curves, title=", ".join(self.names)), partial / CURVES)
        return [folder / name for name in names]


KINDS_REDRAWN = ("faithfulness", "CPR", "CMD")
KINDS_SHOWN = ("cpr", "cmd", "log_cpr", "log_cmd")


def compare_runs(
    folders: Sequence[Path],
    terms: Terms,
    progress: Progress | None = None,
    model: str | None = None,
    journal: Journal | None = None,
    by: str | None = None,
) -> Comparison:
    """Curves and circuits of several runs on prompts that none of them was made with.

    ``model`` is what to open; without it the first run's own. ``by`` names a column that groups the
    prompts: faithfulness is then also given for each of its groups. What is in ``journal``
    already is not computed again. With ``rediscoveries`` every discovery is made again on resamples
    of its prompts, the same ones for runs of the same prompts, and gaps have intervals over both
    draws.

    Raises:
        CircuitsError: fewer than two runs, runs of different models, tasks or metrics, or no
            prompts left.
    """
    from circuits.recorded import recorded_model

    runs = [Run.read(folder) for folder in folders]
    _check_alike(runs, terms.allow_other_model, terms.ablation)
    first = runs[0].record
    how = {"metric": first.evaluation.metric, "progress": progress, "journal": journal}
    running = terms.running(runs[0].ablation, **how)
    opened = recorded_model(first.model, model)
    pairs = fresh_prompts(runs, opened, terms)
    if by is not None:
        pairs.column(by)
    for run in runs:
        run.check_redraws(opened, terms.rediscoveries)
    comparison = _hold_together(runs, opened, pairs, terms, running.settled(opened, pairs))
    if by is None:
        return comparison
    return replace(
        comparison, breakdown=Breakdown.of(by, comparison.names, pairs, comparison.outcomes)
    )


def _check_alike(runs: Sequence[Run], allow_other: bool, ablation: str | None) -> None:
    faults = []
    if len(runs) < 2:
        faults.append(f"give at least two runs, given {len(runs)}")
    choices = {
        "tasks": {run.record.prompts.task for run in runs},
        "metrics": {run.record.evaluation.metric for run in runs},
        "ways of putting texts (--bos, --chat)": {_put(run) for run in runs},
    }
    if ablation is None:
        choices["ablations (--ablation chooses one)"] = {run.ablation for run in runs}
    if not allow_other:
        choices["models"] = {run.record.model.hash[:12] for run in runs}
    faults += [
        f"they have different {what}: {', '.join(sorted(values))}"
        for what, values in choices.items()
        if len(values) > 1
    ]
    if faults:
        raise RunError(all_faults("these runs cannot be compared:", faults))


def _put(run: Run) -> str:
    """How a run put its texts to the model."""
    began = {None: "begun as the tokenizer does", True: "bos", False: "no bos"}
    chat = run.record.config.get("chat") or "none"
    return f"{began[run.record.config.get('bos')]} and chat {chat}"


def _hold_together(
    runs: Sequence[Run],
    model: Model,
    pairs: PromptPairs,
    terms: Terms,
    running: Running,
) -> Comparison:
    described = {"metric": running.metric, **running.to_json()}
    circuits = [edges_of(run.graph) for run in runs]
    if running.progress:
        running.progress(0, 0, "ranking edges")
    plans = [plan(run.scores, ranking, name=run.name) for run in runs for ranking in RANKINGS]
    total = (len(circuits) + len(distinct(plans))) * len(pairs)
    counted = running.counting(total, "running circuits")
    outcomes = measure(model, pairs, circuits, counted)
    curves: list[Curve] = []
    again: tuple[Rediscovery, ...] = ()
    if outcomes.defined:
        curves = run_plans(model, pairs, plans, counted)
    if outcomes.defined and terms.rediscoveries:
        again = tuple(run.rediscovered(model, pairs, terms, running) for run in runs)
    return Comparison(
        names=tuple(run.name for run in runs),
        sizes=tuple(len(circuit) for circuit in circuits),
        outcomes=outcomes,
        curves=tuple(curves),
        overlap=tuple(_jaccard(circuits[0], circuit) for circuit in circuits),
        gaps=_gaps_redrawn(curves, again) if again else _gaps(curves, terms.seed),
        described=describe(model, pairs, described),
        seed=terms.seed,
        rediscoveries=again,
    )


def _jaccard(one: Sequence[str], other: Sequence[str]) -> float:
    either = len(set(one) | set(other))
    return len(set(one) & set(other)) / either if either else 1.0


def _gaps(curves: Sequence[Curve], seed: int) -> tuple[dict[str, Gap], ...]:
    gaps = []
    for start in range(0, len(curves), 2):
        row = {}
        for kind in KINDS:
            at = RANKINGS.index(BEST[kind])
            gap = curves[start + at].gap(curves[at], kind, seed)
            if gap is not None:
                row[kind] = gap
        gaps.append(row)
    return tuple(gaps)


def _gaps_redrawn(
    curves: Sequence[Curve], again: Sequence[Rediscovery]
) -> tuple[dict[str, Gap], ...]:
    """Gaps with intervals over the draws of discovery and of held-out prompts, paired."""
    gaps = []
    for run, rediscoveries in enumerate(again):
        row = {}
        for kind in KINDS:
            at = RANKINGS.index(BEST[kind])
            mine, first = curves[2 * run + at].area(kind), curves[at].area(kind)
            ends = percentiles(rediscoveries.areas[kind] - again[0].areas[kind])
            if mine is not None and first is not None and ends is not None:
                row[kind] = (mine - first, ends)
        gaps.append(row)
    return tuple(gaps)
