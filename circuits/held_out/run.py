"""Evaluating a finished run: its model opened, its prompts avoided, its folder completed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import circuits
from circuits.evaluation.outcomes import check_same_model
from circuits.evaluation.plot_curves import draw
from circuits.evaluation.running import Running
from circuits.evaluation.unseen import held_out
from circuits.folder import CIRCUIT, CURVES, EVALUATION, FILES, SCORES, read_held_out
from circuits.held_out.evaluation import (
    KIND,
    SCHEMA_VERSION,
    HeldOutEvaluation,
    held_out_evaluation,
)
from circuits.held_out.fresh_prompts import config_of, from_file, used_prompts
from circuits.held_out.terms import Terms
from circuits.knowledge import describe_known, knowledge
from circuits.output import Output, adding, guarded, write_json, written
from circuits.results.pictures import save
from circuits.results.record import RECORD, RunRecord, read_record
from circuits.results.report import Report, Reported
from circuits.results.tables import Rows
from graphs import CircuitGraph
from graphs.choose import check_comparable
from patching.journal import kept
from patching.scores import Scores
from tasks.errors import RunError, counted

if TYPE_CHECKING:
    from circuits.clock import Progress
    from circuits.evaluation.curves import Curve
    from circuits.held_out.rediscovery import Rediscovery
    from patching.model import Model
    from tasks import PromptPairs

OUTPUT = Output(
    "evaluation", EVALUATION, KIND, re.compile("|".join(map(re.escape, (EVALUATION, CURVES))))
)


@dataclass(frozen=True)
class Run(Reported):
    """A finished run: `folder`, `record` (all of `run.json`), `scores` and `graph`.

    `print(run)` shows its summary.

    >>> _ = circuits.discover("ioi", "nano", n=8, top=20, out="runs/few", force=True)
    >>> circuits.load_run("runs/few").record.prompts.n
    8
    """

    folder: Path
    record: RunRecord
    scores: Scores
    graph: CircuitGraph

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a run folder.

        Raises:
            RunError: it is not the folder of a finished discovery.
            FormatError: one of its files cannot be read.
        """
        missing = [name for name in (RECORD, SCORES, CIRCUIT) if not (folder / name).is_file()]
        if missing:
            raise RunError(
                f"{folder} is not the folder of a finished run: it has no {', '.join(missing)}; "
                f"make one with circuits discover"
            )
        record = read_record(folder / RECORD)
        config_of(record)
        return cls(
            folder, record, Scores.load(folder / SCORES), CircuitGraph.load(folder / CIRCUIT)
        )

    def report(self) -> Report:
        """What the run did and found; see :func:`circuits.summary.summary_rows`."""
        from circuits.summary import summary_rows

        return Report.of(Rows(summary_rows(self.record, self.folder, FILES)))

    @property
    def name(self) -> str:
        """What tables call the run."""
        return self.folder.resolve().name

    @property
    def ablation(self) -> str:
        """What stood in outside the circuit when the run tested it."""
        return self.record.evaluation.ablation

    def rediscovered(
        self, model: Model, pairs: PromptPairs, terms: Terms, running: Running
    ) -> Rediscovery:
        """The discovery made again on resamples of its prompts; see :func:`rediscover`."""
        from circuits.held_out.rediscovery import rediscover

        config, used = config_of(self.record), used_prompts(self.record, model)
        mine, times, seed = list(self.graph), terms.rediscoveries, terms.seed
        return rediscover(config, model, used, pairs, mine, times, seed=seed, running=running)

    def check_redraws(self, model: Model, rediscoveries: int) -> None:
        """Refuse to discover again with another model than the run was made with, or to train.

        Raises:
            RunError: see above.
        """
        if rediscoveries and self.scores.trained:
            raise RunError(
                f"--rediscoveries draws from every prompt's own scores, and {self.name} was "
                f"learned from all prompts at once; to see what another draw gives, discover with "
                f"other seeds and compare the runs"
            )
        if rediscoveries and self.check_model(model, allow_other=True):
            raise RunError(
                f"--rediscoveries discovers {self.name} again, which needs the model that it was "
                f"made with"
            )

    def check_model(self, model: Model, allow_other: bool) -> bool:
        """Whether the model is another one than the run's; refused unless allowed.

        Raises:
            ModelError: see :func:`circuits.evaluation.outcomes.check_same_model`.
        """
        wanted = self.record.model.hash
        check_same_model(wanted, self.graph.info, model, allow_other)
        return bool(wanted) and wanted != model.hash


@dataclass(frozen=True)
class RunEvaluation(Reported):
    """An evaluation of a run, the model's name, and the files that hold both."""

    examination: HeldOutEvaluation
    model: str
    written: tuple[Path, ...]
    known: Mapping[str, Any]

    @property
    def curves(self) -> tuple[Curve, ...]:
        """The faithfulness curves; none where the model does not do the task."""
        return self.examination.curves

    def report(self) -> Report:
        """The table, and the faithfulness curves."""
        from circuits.evaluation.plot_curves import curve_tables

        return Report.of(Rows(self.rows()), *curve_tables(self.curves, self.examination.seed))

    def to_json(self) -> dict[str, Any]:
        """What `evaluation.json` holds."""
        content: dict[str, Any] = json.loads(self.written[0].read_text(encoding="utf-8"))
        return content

    def rows(self) -> dict[str, str]:
        """Label and value of a table."""
        return {"model": self.model, "known": describe_known(self.known), **self.examination.rows()}


def carry_out(
    folder: Path,
    terms: Terms,
    *,
    model: str | None = None,
    reference: Path | None = None,
    progress: Progress | None = None,
    out: Path | None = None,
    force: bool = True,
) -> RunEvaluation:
    """Examine a run's circuit on held-out prompts and write what was found into its folder.

    With ``out`` it is written there instead. An evaluation that is there is replaced with ``force``
    alone.

    Raises:
        CircuitsError: the folder is no run, the model is another one, or no prompts are left; then
            nothing is written.
    """
    with guarded(folder), OUTPUT.reserved(out, force):
        run = Run.read(folder)
        if out is None and not force:
            _check_new(folder)
        return _guarded(run, terms, model, reference, progress, out)


def _check_new(folder: Path) -> None:
    """Refuse to replace an evaluation without being told to.

    Raises:
        RunError: there is one.
    """
    seen = read_held_out(folder)
    if seen is not None:
        raise RunError(
            f"{folder} was evaluated before ({counted(seen.n, 'prompt pair')}, {seen.ablation} "
            f"outside); replace that with --force, or write elsewhere with --out"
        )


def _guarded(
    run: Run,
    terms: Terms,
    model: str | None,
    reference: Path | None,
    progress: Progress | None,
    out: Path | None,
) -> RunEvaluation:
    metric = run.record.evaluation.metric
    running = terms.running(run.ablation, metric=metric, progress=progress)
    other = None if reference is None else read_reference(reference)
    if other is not None:
        check_comparable(other, run.graph)
    about = circuits.__version__, EVALUATION, run.record.config_sha256, terms
    with kept(out or run.folder, *about) as journal:
        return _carry_out(run, terms, model, replace(running, journal=journal), other, out)


def _carry_out(
    run: Run,
    terms: Terms,
    model: str | None,
    running: Running,
    reference: CircuitGraph | None,
    out: Path | None,
) -> RunEvaluation:
    from circuits.recorded import recorded_model

    opened = recorded_model(run.record.model, model)
    pairs = fresh_prompts([run], opened, terms)
    run.check_redraws(opened, terms.rediscoveries)
    nodes = run.record.config.get("nodes", "heads")
    running = running.settled(opened, pairs, nodes)
    examination = held_out_evaluation(
        run.graph, run.scores, opened, pairs, running, reference, terms.seed
    )
    if terms.rediscoveries and examination.faithfulness is not None:
        again = run.rediscovered(opened, pairs, terms, running)
        examination = replace(examination, rediscoveries=again)
    described = describe(opened, pairs, examination.to_json() | running.to_json())
    files, known = _write(run, examination, described, out), described["prompts"]["known"]
    return RunEvaluation(examination, described["model"], files, known)


def fresh_prompts(runs: Sequence[Run], model: Model, terms: Terms) -> PromptPairs:
    """Prompts that none of the runs was made with.

    Raises:
        ModelError: a run was made with another model.
        RunError: no prompts are left, or prompts of the file were used.
    """
    used = used_by(runs, model, terms.allow_other_model)
    config = config_of(runs[0].record)
    if terms.prompts is not None:
        return from_file(terms.prompts, config, model, used, terms.skip_bad)
    return held_out(config, model, used, terms.n, terms.seed + 1)


def used_by(runs: Sequence[Run], model: Model, allow_other: bool = False) -> list[PromptPairs]:
    """The prompts that each run was made with, drawn again.

    Raises:
        ModelError: a run was made with another model.
        RunError: prompts come out differently now.
    """
    others = [run.check_model(model, allow_other) for run in runs]
    return [used_prompts(run.record, model, other) for run, other in zip(runs, others, strict=True)]


def read_reference(path: Path) -> CircuitGraph:
    """The circuit of a file or a run folder."""
    return CircuitGraph.load(path / CIRCUIT if path.is_dir() else path)


def describe(model: Model, pairs: PromptPairs, measured: dict[str, Any]) -> dict[str, Any]:
    """What was found, with what it was found on."""
    from circuits.models import name_of

    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": name_of(model.path),
        "model_hash": model.hash,
        "prompts": {
            "task": pairs.task,
            "n": pairs.prompts,
            "sha256": pairs.digest,
            "held_out": True,
            "known": knowledge(model, pairs).to_json(),
        },
        **measured,
    }


def _write(
    run: Run, examination: HeldOutEvaluation, described: dict[str, Any], out: Path | None
) -> tuple[Path, ...]:
    names = [EVALUATION] if examination.faithfulness is None else [EVALUATION, CURVES]
    with adding(run.folder) if out is None else written(out, OUTPUT.check) as place:
        # A picture is never beside the numbers of another evaluation.
        (place / CURVES).unlink(missing_ok=True)
        write_json(place / EVALUATION, described)
        if examination.faithfulness is not None:
            size = len(run.graph) / len(run.scores)
            circuit = size, examination.faithfulness, examination.interval
            save(draw(examination.curves, circuit, run.name), place / CURVES)
    return tuple((out or run.folder) / name for name in names)
