"""Choosing a circuit by running it: iterated re-attribution, and pruning edge by edge (ACDC).

Edges act together, so what an edge does alone in the whole model is not what it does in a circuit.
Both ways here ask again inside what is left, and drop what connects nothing as they go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from circuits.evaluation.running import PLAIN, Running
from graphs import CircuitGraph, CircuitInfo, ScoredEdge
from patching.nodes.edges import EdgeSet
from patching.nodes.layout import layout_of
from tasks.errors import MethodError

if TYPE_CHECKING:
    from patching.circuit_run import CircuitRunner
    from patching.model import Model
    from patching.runs import Batch
    from patching.scores import Scores
    from patching.sites import Edge
    from tasks import PromptPairs


def iterated(
    model: Model,
    pairs: PromptPairs,
    counts: Sequence[int],
    *,
    start: Scores | None = None,
    keep: float = 0.7,
    steps: int = 5,
    absolute: bool = True,
    running: Running = PLAIN,
) -> list[CircuitGraph]:
    """Nested circuits of at most the given numbers of edges, largest first.

    From all edges (ranked by ``start`` where given) the highest are kept, those left are scored
    inside the circuit that they make (:func:`patching.inside.inside_scores`, with ``steps``), and
    so on: each round keeps the share ``keep``, or as many as the next of ``counts``. The edges of
    every circuit carry the scores they had when it was cut.

    Raises:
        MethodError: no counts, a count below 1, or a share that is not between 0 and 1.
    """
    from patching.inside import inside_scores

    wanted = sorted(set(counts), reverse=True)
    if not wanted or wanted[-1] < 1 or not 0 < keep < 1:
        raise MethodError(f"counts must be at least 1 and 0 < keep < 1: {counts}, {keep}")
    layout = layout_of(model.anatomy) if start is None else start.edges()[0]
    left, considered = EdgeSet.all(layout), layout.n_edges

    def attribute() -> Scores:
        if running.progress:
            running.progress(considered - len(left), considered - wanted[-1], "attributing again")
        return inside_scores(
            model,
            pairs,
            left,
            metric=running.metric or pairs.metric,
            steps=steps,
            batch_size=running.afresh(),
            ablation=running.ablation,
            means=running.means,
        )

    scores, fresh = attribute() if start is None else start, True
    circuits: list[CircuitGraph] = []
    for target in wanted:
        while len(left) > target:
            scores = scores if fresh else attribute()
            left = _highest(scores, max(target, int(keep * len(left))), absolute).connected()
            fresh = False
        circuits.append(_graph(scores, tuple(left), "iterated", target, considered, absolute))
    return circuits


def _highest(scores: Scores, n: int, absolute: bool) -> EdgeSet:
    layout, numbers = scores.edges()
    return EdgeSet.numbered(layout, numbers[scores.order(absolute)[:n]])


def _graph(
    scores: Scores,
    left: Sequence[Edge],
    rule: str,
    requested: int,
    considered: int,
    absolute: bool = True,
    least: float | None = None,
) -> CircuitGraph:
    spread = scores.standard_error
    index = {name: i for i, name in enumerate(scores.names)}
    items = [
        ScoredEdge(
            edge,
            float(scores.values[index[edge.name]]),
            None if spread is None else float(spread[index[edge.name]]),
        )
        for edge in left
    ]
    info = CircuitInfo.from_scores(scores).selected(
        rule=rule,
        requested=requested,
        considered=considered,
        chosen=len(items),
        kept=len(items),
        absolute=absolute,
        threshold=least,
    )
    return CircuitGraph(info, items)


def acdc(
    model: Model,
    pairs: PromptPairs,
    least: float,
    *,
    start: Iterable[Edge] | None = None,
    running: Running = PLAIN,
) -> CircuitGraph:
    """The circuit left when every edge whose removal moves the metric by less than ``least`` goes.

    Receivers are visited from the logits back, senders from the last to the first; each edge is
    removed from the circuit as it then stands, everything outside ablated, and put back if the
    mean metric moves by ``least`` or more, either way (ACDC, Conmy et al. 2023, with the task's
    metric in place of the KL divergence). What an edge's removal moved is its score: exact, inside
    the circuit of that moment. ``start`` is a circuit to prune; default: all edges. One run of the
    circuit per edge that leads to the logits.

    Raises:
        SiteError: an edge of ``start`` that this model does not have.
        MethodError: ``least`` is negative.
    """
    if least < 0:
        raise MethodError(f"least must not be negative, given {least}")
    begin = EdgeSet.all(layout_of(model.anatomy))
    begin = begin if start is None else EdgeSet.of(start, model.anatomy)
    layout, order = begin.layout, begin.numbers[::-1].tolist()
    trial = _Trial(model, pairs, EdgeSet(layout, begin.kept.copy()), running)
    kept: dict[int, np.ndarray] = {}
    leading = {"logits"}
    now = trial.metric()
    for done, number in enumerate(order):
        edge = layout.edge(number)
        trial.switch(number, False)
        if edge.receiver.name not in leading:
            continue
        without = trial.metric()
        if abs(float((now - without).mean())) < least:
            now = without
        else:
            trial.switch(number, True)
            kept[number] = now - without
            leading.add(edge.sender.name)
        if running.progress:
            running.progress(done + 1, len(order), "pruning edge by edge")
    scores = trial.scores({layout.edge(number): row for number, row in kept.items()}, pairs, model)
    left = tuple(EdgeSet.numbered(layout, np.array(sorted(kept), dtype=np.int64)).connected())
    return _graph(scores, left, "acdc", len(order), layout.n_edges, least=least)


class _Trial:
    """A circuit whose edges are switched off and on, run on all prompts."""

    def __init__(self, model: Model, pairs: PromptPairs, wiring: EdgeSet, running: Running) -> None:
        from patching.circuit_run import settled_runner
        from patching.metrics import check_metric

        self.model, self.pairs = model, pairs
        self.wiring = wiring
        self.checked = check_metric(running.metric or pairs.metric)
        self.options = running.afresh()
        self._made = settled_runner(
            model, pairs, running.ablation, running.means, self.options, wiring.layout.nodes
        )
        self._held: dict[tuple[int, int], CircuitRunner] = {}
        """The runner of every batch, as long as memory lasts."""

    def switch(self, number: int, on: bool) -> None:
        """Put an edge into the circuit, or take it out."""
        self.wiring.kept[number] = on

    def metric(self) -> np.ndarray:
        """The metric of every prompt in the circuit as it stands."""
        from patching.sweep import sweep

        def work(batch: Batch) -> np.ndarray:
            rows = batch.start, len(batch)
            if rows not in self._held:
                self._held[rows] = self._made(batch)
            value = self.checked(self._held[rows].logits(self.wiring), batch.pairs)
            return value.double().cpu().numpy()

        values = [*sweep(self.model, self.pairs, work, self.options, spare=self._held.clear)]
        # What did not fit once need not be tried again for every edge.
        smallest = min(map(len, values[:-1]), default=self.options.batch_size)
        self.options = self.options.afresh(smallest)
        return np.concatenate(values)

    def scores(self, kept: dict[Edge, np.ndarray], pairs: PromptPairs, model: Model) -> Scores:
        """The kept edges' effects as scores."""
        from patching.scores import Scores

        rows = np.array(list(kept.values())).reshape(len(kept), len(pairs))
        effects = pairs.by_prompt(rows)
        return Scores(
            names=tuple(edge.name for edge in kept),
            totals=effects.sum(1),
            squares=(effects**2).sum(1),
            count=pairs.prompts,
            level="edge",
            method="acdc",
            direction="noising",
            metric=self.checked.name,
            anatomy=model.anatomy,
            task=pairs.task,
            model_hash=model.hash,
        )
