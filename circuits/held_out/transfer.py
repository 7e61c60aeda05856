"""Circuits of some runs on several tasks: does the circuit of task A carry task B?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.evaluate import edges_of
from circuits.evaluation.outcomes import Outcomes, measure
from circuits.evaluation.unseen import held_out
from circuits.held_out.evaluation import SCHEMA_VERSION
from circuits.held_out.fresh_prompts import config_of
from circuits.held_out.run import Run, used_by
from circuits.held_out.terms import Terms
from circuits.output import Output, write_json, written
from circuits.results.intervals import Ends, percent
from circuits.results.report import Report, Reported
from circuits.results.tables import Table
from circuits.split import with_split
from tasks.errors import RunError, TaskError, all_faults

if TYPE_CHECKING:
    from circuits.clock import Progress
    from circuits.config import Config
    from patching.journal import Journal
    from patching.model import Model
    from tasks import PromptPairs

EXPLAINED = (
    "Rows are circuits, columns tasks; each number is the share of the answer, in percent, that "
    "the circuit alone recovers, on prompts that no run was made with."
)


@dataclass(frozen=True)
class Transfer(Reported):
    """What the circuit of every run makes of every task; ``outcomes`` are one per task."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    tasks: tuple[str, ...]
    outcomes: tuple[Outcomes, ...]
    ablation: str
    model_hash: str

    def table(self) -> Table:
        """A row per run, a column per task."""
        head = ["circuit of", "edges", *self.tasks]
        rows = [
            [name, str(size), *(self._cell(run, each) for each in self.outcomes)]
            for run, (name, size) in enumerate(zip(self.names, self.sizes, strict=True))
        ]
        return Table([*head], [*rows, ["prompts", "", *(str(o.n) for o in self.outcomes)]])

    def _cell(self, run: int, outcomes: Outcomes) -> str:
        if not outcomes.defined:
            return "undefined"
        return percent(float(outcomes.faithfulness[run]), outcomes.interval(run))

    def report(self) -> Report:
        """What the numbers are, and the table."""
        return Report.of(EXPLAINED, self.table())

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        columns = [
            {
                "task": task,
                "prompts": each.n,
                "metric": each.name,
                "faithfulness": each.faithfulness.tolist() if each.defined else None,
                "intervals": [
                    each.interval(i) if each.defined else None for i in range(len(self.names))
                ],
            }
            for task, each in zip(self.tasks, self.outcomes, strict=True)
        ]
        return {
            "schema_version": SCHEMA_VERSION,
            "model_hash": self.model_hash,
            "ablation": self.ablation,
            "runs": [
                {"name": name, "edges": size}
                for name, size in zip(self.names, self.sizes, strict=True)
            ],
            "tasks": columns,
        }

    def _intervals(self, outcomes: Outcomes) -> list[Ends | None] | None:
        if not outcomes.defined:
            return None
        return [outcomes.interval(run) for run in range(len(self.names))]

    def write(self, folder: Path, output: Output, report: str) -> list[Path]:
        """The numbers, in a folder of their own.

        Raises:
            RunError: the folder holds something else.
        """
        with written(folder, output.check) as partial:
            write_json(partial / report, self.to_json() | {"kind": output.kind})
        return [folder / report]


def transfer(
    folders: Sequence[Path],
    tasks: Sequence[str],
    terms: Terms,
    progress: Progress | None = None,
    model: str | None = None,
    journal: Journal | None = None,
) -> Transfer:
    """Every run's circuit on every task, run alone.

    Raises:
        CircuitsError: runs of different models, tasks that there are not, or no prompts left; then
            nothing is computed.
    """
    from circuits.recorded import recorded_model

    runs = [Run.read(folder) for folder in folders]
    check_one_model(runs, "carried over to other tasks")
    configs = [_config(runs[0], task) for task in tasks]
    opened = recorded_model(runs[0].record.model, model)
    used = used_by(runs, opened, terms.allow_other_model)
    fresh = [_prompts(config, opened, used, terms) for config in configs]
    circuits, outcomes = [edges_of(run.graph) for run in runs], []
    running = terms.running(runs[0].ablation, progress=progress, journal=journal)
    for pairs in fresh:
        each = replace(running, metric=pairs.metric).settled(opened, pairs)
        outcomes.append(measure(opened, pairs, circuits, each))
    return Transfer(
        tuple(run.name for run in runs),
        tuple(len(circuit) for circuit in circuits),
        tuple(tasks),
        tuple(outcomes),
        running.ablation,
        opened.hash,
    )


def _config(run: Run, task: str) -> Config:
    """The choices of a run, for another task; checked before a model is opened."""
    config = replace(config_of(run.record), task=task, asked=(), n=None, metric=None, positions="")
    config.check()
    if config.from_file or config.model is None:
        return config
    try:
        return replace(config, task=with_split(task, config.model))
    except TaskError:
        return config


def _prompts(
    config: Config, model: Model, used: Sequence[PromptPairs], terms: Terms
) -> PromptPairs:
    return held_out(config, model, used, terms.n, terms.seed + 1)


def check_one_model(runs: Sequence[Run], what: str, least: int = 1) -> None:
    """Refuse runs of different models, or too few of them.

    Raises:
        RunError: see above.
    """
    hashes = {run.record.model.hash for run in runs}
    faults = [f"give at least {least} runs, given {len(runs)}"] if len(runs) < least else []
    if len(hashes) > 1:
        hashed = ", ".join(sorted(f"{run.name} {run.record.model.hash[:12]}" for run in runs))
        faults.append(f"they were made with different models: {hashed}")
    if faults:
        raise RunError(all_faults(f"these runs cannot be {what}:", faults))
