"""The circuit track carried out: score, rank, run at ten sizes, and take the areas.

1. Each task is asked with `n` prompts to score on and others to measure on.
2. A task that the model does not do is left out: the benchmark wants three quarters right.
3. Every method scores all edges. Its circuits at the benchmark's sizes are run with corrupted
   activations outside, ranked by signed score for CPR and by absolute score for CMD.
4. Random scores stand beside them. Where a reference circuit is given, so does the AUROC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.config import Config
from circuits.evaluation.curves import plan, run_plans
from circuits.evaluation.reference import auroc
from circuits.evaluation.running import Running
from circuits.evaluation.unseen import held_out
from circuits.prompts import prompts_of
from circuits.selection.scored import score_by
from circuits.split import with_split
from circuits.studies.mib.cells import LEAST, Cell, cells
from circuits.studies.mib.result import CellResult, Track
from graphs import CircuitGraph
from tasks.errors import MethodError, TaskError, all_faults, number_faults

if TYPE_CHECKING:
    from circuits.clock import Progress
    from patching.journal import Journal
    from patching.model import Model
    from patching.scores import Scores

METHODS = ("attribution", "ig", "relevance", "secant")
RANDOM = "random"


@dataclass(frozen=True)
class Terms:
    """How the track is run.

    n, test     prompts to score on, and others to measure on, of every task
    least       a task is left out where the model prefers the answer on a smaller share of prompts
    references  known circuits, by the benchmark's names of tasks
    """

    methods: tuple[str, ...] = METHODS
    n: int = 100
    test: int = 100
    seed: int = 0
    least: float = LEAST
    batch_size: int = 32
    skip_bad: bool = False
    references: Mapping[str, Path] | None = None

    def check(self, asked: Sequence[Cell], model: str | None) -> None:
        """Refuse what cannot work, without opening a model.

        Raises:
            CircuitsError: every fault.
        """
        given = ("n", self.n, 2), ("test", self.test, 2), ("seed", self.seed, 0)
        faults = [*number_faults(*given, ("batch size", self.batch_size, 1))]
        if not 0 <= self.least <= 1:
            faults.append(f"least is {self.least:g}; give a share of the prompts from 0 to 1")
        names = [cell.name for cell in asked]
        faults += [
            f"a reference of {name}, which is not asked; asked: {', '.join(names)}"
            for name in self.references or {}
            if name not in names
        ]
        if twice := sorted({m for m in self.methods if self.methods.count(m) > 1}):
            faults.append(f"method {twice[0]} is named twice")
        if faults:
            raise MethodError(all_faults("this track cannot be run:", faults))
        for cell in asked:
            for method in self.methods:
                self.config(cell, method, model).check()

    def config(self, cell: Cell, method: str, model: str | None) -> Config:
        """A task scored by one method."""
        return Config(
            cell.task,
            model,
            method=method,
            n=self.n,
            seed=self.seed,
            batch_size=self.batch_size,
            skip_bad=self.skip_bad,
        )


def mib(
    model: Any = "nano",
    *,
    tasks: Sequence[str] = (),
    files: Mapping[str, str | Path] | None = None,
    methods: Sequence[str] = METHODS,
    n: int = 100,
    test: int = 100,
    seed: int = 0,
    least: float = LEAST,
    batch_size: int = 32,
    skip_bad: bool = False,
    references: Mapping[str, str | Path] | None = None,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Track:
    """The circuit track of the MIB benchmark (arXiv 2504.13151) on your own model.

    `tasks` are the benchmark's names: `ioi`, `mcqa`, `arithmetic_addition`,
    `arithmetic_subtraction`, and with their questions in `files` (`{"arc_easy": PATH}`) `arc_easy`
    and `arc_challenge`. By default all that need no file, and those that have one. Edges are scored
    by each of `methods` on `n` prompts and measured on `test` others. CPR is the area under the
    curve of faithfulness over the share of edges kept, ranked by signed score; CMD the area between
    the curve and 1, ranked by absolute score; both without a unit. A task that the model prefers
    the answer of on less than `least` of its prompts is left out, and the result says so.
    `references` are files of known circuits, by task; the result then has the AUROC of every
    method over all edges. With `out` the tables are written there, and per method and task a
    `importances.json` as the benchmark takes it; the same call, killed and made again, goes on.

    >>> circuits.mib(model, tasks=["ioi"], methods=["attribution"], n=8, test=8)
    Track(nano: ioi; attribution, random)

    Raises:
        CircuitsError: a task, method, file or number that cannot be meant, before the model is
            opened; or `out` holds something else.
    """
    from circuits import __version__
    from circuits.models import load_model, name_of
    from circuits.studies.mib.result import OUTPUT
    from patching.journal import kept

    cells_asked = cells(tasks, {name: Path(path) for name, path in (files or {}).items()})
    known = {name: Path(path) for name, path in (references or {}).items()} or None
    terms = Terms(tuple(methods), n, test, seed, least, batch_size, skip_bad, known)
    terms.check(cells_asked, model if isinstance(model, str) else None)
    graphs = {name: CircuitGraph.load(path) for name, path in (known or {}).items()}
    folder = None if out is None else Path(out)
    with OUTPUT.reserved(folder, force):
        if progress is not None:
            progress(0, 0, "opening the model")
        opened = load_model(model)
        about = __version__, "mib", terms, [cell.task for cell in cells_asked], opened.hash
        with kept(folder, *about) as journal:
            name = name_of(opened.path)
            track = carry_out(opened, cells_asked, terms, graphs, progress, journal, name)
            if folder is not None:
                track.write(folder)
    return track


def carry_out(
    model: Model,
    asked: Sequence[Cell],
    terms: Terms,
    references: Mapping[str, CircuitGraph],
    progress: Progress | None = None,
    journal: Journal | None = None,
    name: str = "",
) -> Track:
    """Every task in turn; one that cannot be asked of this model says why."""
    results = []
    for cell in asked:

        def here(done: int, total: int, what: str, name: str = cell.name) -> None:
            if progress is not None:
                progress(done, total, f"{name}: {what}")

        cell = replace(cell, task=with_split(cell.task, str(model.path)))
        running = Running(2 * terms.batch_size, here, journal)
        try:
            results.append(_cell(model, cell, terms, references.get(cell.name), running))
        except TaskError as fault:
            results.append(CellResult.refused(cell, str(fault).splitlines()[0]))
    return Track(name, model.hash, tuple(results), terms.methods, terms.seed)


def _cell(
    model: Model, cell: Cell, terms: Terms, reference: CircuitGraph | None, running: Running
) -> CellResult:
    from circuits.evaluation.outcomes import measure

    config = terms.config(cell, terms.methods[0], None)
    pairs = prompts_of(config, model)
    fresh = held_out(config, model, [pairs], terms.test)
    knows = float(measure(model, fresh, [], running).preferred[0].mean())
    if knows < terms.least:
        return CellResult.refused(
            cell,
            f"the model prefers the answer on {knows:.0%} of {fresh.prompts} prompts; at least "
            f"{terms.least:.0%} are needed",
            knows,
        )
    scores = {
        method: score_by(replace(config, method=method), model, pairs, running).scores
        for method in terms.methods
    }
    rankings = scores | {RANDOM: randomly(next(iter(scores.values())), terms.seed)}
    plans = [
        plan(each, ranking, name=method)
        for method, each in rankings.items()
        for ranking in ("signed", "absolute")
    ]
    curves = run_plans(model, fresh, plans, running)
    return CellResult(
        cell,
        pairs.prompts,
        fresh.prompts,
        knows,
        {method: (curves[2 * i], curves[2 * i + 1]) for i, method in enumerate(rankings)},
        _aurocs(rankings, reference),
        scores,
    )


def randomly(scores: Scores, seed: int) -> Scores:
    """The same edges with scores drawn from a normal distribution."""
    drawn = np.random.default_rng(seed).standard_normal(len(scores))
    return replace(scores, totals=drawn * scores.count, squares=None, method=RANDOM)


def _aurocs(
    scores: Mapping[str, Scores], reference: CircuitGraph | None
) -> Mapping[str, float | None]:
    if reference is None:
        return {}
    return {method: auroc(each, list(reference.edges)) for method, each in scores.items()}
