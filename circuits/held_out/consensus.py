"""What several runs agree on: the share of runs that hold an edge, and the circuit of most of them.

Runs of one model and task, made with other prompts, seeds or methods, each find a circuit of their
own. An edge that most of them hold is less of an accident of the draw. Whether the circuit of such
edges is any better is measured: it is run on prompts that no run was made with, beside circuits of
equal size, each run's own strongest edges and random ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.evaluate import edges_of
from circuits.evaluation.completeness import random_circuit
from circuits.evaluation.outcomes import Outcomes, measure, undefined
from circuits.held_out.run import Run, describe, fresh_prompts
from circuits.held_out.terms import Terms
from circuits.held_out.transfer import check_one_model
from circuits.output import Output, write_json, written
from circuits.results.intervals import Ends, bootstrap, percent, weights
from circuits.results.report import Report, Reported
from circuits.results.tables import Rows, Table
from graphs import CircuitGraph, from_scores
from graphs.parts import ScoredEdge
from patching.nodes.edges import EdgeSet
from patching.sites import parse_edge
from tasks.errors import RunError, all_faults, counted

if TYPE_CHECKING:
    from circuits.clock import Progress
    from patching.journal import Journal

REPORT, CIRCUIT, PICTURE = "consensus.json", "circuit.json", "circuit.svg"
OUTPUT = Output(
    "consensus",
    REPORT,
    "circuits consensus",
    re.compile("|".join(map(re.escape, (REPORT, CIRCUIT, PICTURE)))),
)
RANDOM = 10
SHOWN = 12


@dataclass(frozen=True)
class Consensus(Reported):
    """What runs agree on, and how well the circuit of it does.

    shares     of every edge that any run holds, the share of runs that hold it
    least      the share from which on an edge is in the consensus circuit
    circuit    that circuit, edges scored by the mean over the runs that scored them
    outcomes   the whole model, nothing, the consensus, each run's strongest edges of equal number,
               then random circuits of equal size
    overlap    mean Jaccard of two runs' circuits
    """

    names: tuple[str, ...]
    shares: dict[str, float]
    least: float
    circuit: CircuitGraph
    outcomes: Outcomes
    overlap: float
    described: dict[str, Any]
    seed: int = 0

    @property
    def runs(self) -> slice:
        """Where the runs' circuits of equal size stand among the outcomes."""
        return slice(1, 1 + len(self.names))

    def gain(self) -> tuple[float, Ends | None]:
        """Faithfulness of the consensus minus the mean of the runs' circuits of equal size."""
        every = np.full((1, self.outcomes.n), 1 / self.outcomes.n)
        ends = bootstrap(lambda d: self._gains(weights(d)), self.outcomes.n, self.seed)
        return float(self._gains(every)[0]), ends

    def _gains(self, prompts: np.ndarray) -> np.ndarray:
        shares = self.outcomes.weighted(prompts)
        return shares[:, 0] - shares[:, self.runs].mean(1)

    def rows(self) -> dict[str, str]:
        """Label and value of a table."""
        held = np.array(list(self.shares.values()))
        everywhere, once = int((held == 1).sum()), int((held * len(self.names) < 1.5).sum())
        rows = {
            "runs": ", ".join(self.names),
            "edges in any run": f"{len(held)}: {everywhere} in every run, {once} in only one",
            "overlap of two runs": f"Jaccard {self.overlap:.2f}, mean over pairs of runs",
            "consensus": f"{counted(len(self.circuit), 'edge')} that at least {self.least:.0%} of "
            f"the runs hold and that connect",
        }
        if not self.outcomes.defined:
            return rows | {"faithfulness": undefined(self.outcomes)}
        f = self.outcomes.faithfulness
        random = f[self.runs.stop :]
        gain, ends = self.gain()
        return rows | {
            "faithfulness": f"{percent(float(f[0]), self.outcomes.interval(0, self.seed))} %, "
            f"on {counted(self.outcomes.n, 'prompt')} that no run was made with",
            "of equal size": f"the runs' own strongest edges {100 * f[self.runs].mean():.1f} % "
            f"({100 * f[self.runs].min():.1f} to {100 * f[self.runs].max():.1f}), random "
            f"circuits {100 * random.mean():.1f} %",
            "gain": f"{percent(gain, ends)} points: {_verdict(ends)}",
            "how much is the draw": _draw_in_words(float(np.mean(held)), len(self.names)),
        }

    def table(self) -> Table:
        """The edges that most runs hold."""
        ranked = sorted(self.shares.items(), key=lambda item: (-item[1], item[0]))
        rows = [[name, f"{share:.0%}"] for name, share in ranked[:SHOWN]]
        more = len(ranked) - len(rows)
        return Table(["edge", "runs"], rows, more=f"and {more} more: {REPORT} has all" * bool(more))

    def report(self) -> Report:
        """The rows and the table."""
        return Report.of(Rows(self.rows()), self.table())

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        known = self.outcomes.defined
        faithfulness = self.outcomes.faithfulness
        gain, ends = self.gain() if known else (None, None)
        return self.described | {
            "kind": OUTPUT.kind,
            "runs": list(self.names),
            "least": self.least,
            "edges": len(self.circuit),
            "overlap": self.overlap,
            "faithfulness": float(faithfulness[0]) if known else None,
            "interval": self.outcomes.interval(0, self.seed) if known else None,
            "runs_of_equal_size": faithfulness[self.runs].tolist() if known else None,
            "random_of_equal_size": faithfulness[self.runs.stop :].tolist() if known else None,
            "gain": gain,
            "gain_interval": ends,
            "shares": self.shares,
        }

    def write(self, folder: Path) -> list[Path]:
        """consensus.json, and the circuit as circuit.json and circuit.svg.

        Raises:
            RunError: the folder holds something else.
        """
        with written(folder, OUTPUT.check) as partial:
            write_json(partial / REPORT, self.to_json())
            self.circuit.save(partial / CIRCUIT)
            self.circuit.draw(partial / PICTURE)
        return [folder / name for name in (REPORT, CIRCUIT, PICTURE)]


def _verdict(ends: Ends | None) -> str:
    if ends is None or ends[0] <= 0 <= ends[1]:
        return "no sure difference"
    return "surely better" if ends[0] > 0 else "surely worse"


def _draw_in_words(held: float, runs: int) -> str:
    return f"an edge of one of these circuits is in {held:.0%} of the {runs} runs on average"


def consensus(
    folders: Sequence[Path],
    terms: Terms,
    least: float = 0.5,
    progress: Progress | None = None,
    model: str | None = None,
    journal: Journal | None = None,
) -> Consensus:
    """The consensus of runs, tested on prompts that none of them was made with.

    An edge is in it where more than half of the runs hold it, or with ``least`` at least that
    share.

    Raises:
        CircuitsError: fewer than two runs, runs of different models, tasks or levels, no share, no
            edge that so many hold, or no prompts left.
    """
    from circuits.recorded import recorded_model

    if not 0 < least <= 1:
        raise RunError(f"--share is {least:g}; give a share of the runs above 0 and at most 1")
    runs = [Run.read(folder) for folder in folders]
    check_one_model(runs, "brought to a consensus", least=2)
    _check_alike(runs)
    circuits = [edges_of(run.graph) for run in runs]
    counts = Counter(name for circuit in circuits for name in circuit)
    shares = {name: count / len(runs) for name, count in counts.items()}
    graph = _circuit(runs, shares, least)
    running = terms.running(
        runs[0].ablation,
        metric=runs[0].record.evaluation.metric,
        progress=progress,
        journal=journal,
    )
    opened = recorded_model(runs[0].record.model, model)
    pairs = fresh_prompts(runs, opened, terms)
    nodes = runs[0].record.config.get("nodes", "heads")
    size, layout = len(graph.edges), EdgeSet.of(graph.edges, opened.anatomy).layout
    of_runs = [EdgeSet.of(_strongest(run, size), opened.anatomy) for run in runs]
    random = [random_circuit(layout, size, terms.seed + i) for i in range(RANDOM)]
    tested = [EdgeSet.of(graph.edges, opened.anatomy), *of_runs, *random]
    running = running.settled(opened, pairs, nodes)
    outcomes = measure(opened, pairs, tested, running)
    described = describe(opened, pairs, {"metric": running.metric, **running.to_json()})
    return Consensus(
        tuple(run.name for run in runs),
        dict(sorted(shares.items(), key=lambda item: (-item[1], item[0]))),
        least,
        graph,
        outcomes,
        float(np.mean([*_jaccards(circuits)])),
        described,
        terms.seed,
    )


def _check_alike(runs: Sequence[Run]) -> None:
    choices = {
        "tasks": {run.record.prompts.task for run in runs},
        "metrics": {run.record.evaluation.metric for run in runs},
        "kinds of nodes": {run.record.config.get("nodes", "heads") for run in runs},
        "levels": {run.graph.level for run in runs},
        "ablations (--ablation chooses one)": {run.ablation for run in runs},
    }
    faults = [
        f"they have different {what}: {', '.join(sorted(values))}"
        for what, values in choices.items()
        if len(values) > 1
    ]
    if any(run.graph.level != "edge" or run.record.config.get("positions") for run in runs):
        faults.append("a consensus is of plain edges: runs of --level edge, without --positions")
    if faults:
        raise RunError(all_faults("these runs cannot be brought to a consensus:", faults))


def _circuit(runs: Sequence[Run], shares: dict[str, float], least: float) -> CircuitGraph:
    """The edges that enough runs hold, without edges that connect nothing.

    Raises:
        RunError: none is left.
    """
    enough = [name for name, share in shares.items() if share >= least - 1e-9]
    edges = [
        ScoredEdge(parse_edge(name), float(np.mean([*_scores_of(name, runs)]))) for name in enough
    ]
    first = runs[0].graph
    info = first.info
    for run in runs[1:]:
        info = info.merged(run.graph.info)
    info = replace(info, model=first.info.model, model_hash=first.info.model_hash)
    selection = {"rule": f"held by at least {least:.0%} of {len(runs)} runs", "requested": None}
    info = info.selected(**selection, chosen=len(edges), kept=len(edges), threshold=least)
    graph = CircuitGraph(info, edges).prune()
    if not len(graph):
        raise RunError(
            f"no way from the input to the logits is in at least {least:.0%} of these runs; lower "
            f"--share (the most that any edge has is {max(shares.values(), default=0):.0%})"
        )
    return graph


def _scores_of(name: str, runs: Sequence[Run]) -> Iterator[float]:
    for run in runs:
        if name in run.graph:
            yield run.graph[name]


def _strongest(run: Run, size: int) -> list[str]:
    """A run's strongest edges that connect, at least as many as the consensus has."""
    return list(from_scores(run.scores, size, fill=True).edges)


def _jaccards(circuits: Sequence[Sequence[str]]) -> Iterator[float]:
    for one, other in combinations(map(set, circuits), 2):
        yield len(one & other) / max(1, len(one | other))
