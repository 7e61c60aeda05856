"""Choosing a circuit by running it: iterated re-attribution, and pruning edge by edge (ACDC).

Edges act together, so what an edge does alone in the whole model is not what it does in a circuit.
Both ways here ask again inside what is left, and drop what connects nothing as they go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from circuits.evaluation.curves import connected
from circuits.evaluation.running import PLAIN, Running
from graphs import CircuitGraph, CircuitInfo, ScoredEdge
from tasks.errors import MethodError

if TYPE_CHECKING:
    from patching.circuit_run import CircuitRunner, Wiring
    from patching.model import Model
    from patching.scores import Scores
    from patching.sites import Edge, Site
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
    from patching.sites import edges

    wanted = sorted(set(counts), reverse=True)
    if not wanted or wanted[-1] < 1 or not 0 < keep < 1:
        raise MethodError(f"counts must be at least 1 and 0 < keep < 1: {counts}, {keep}")
    left: tuple[Edge, ...] = tuple(edges(model.anatomy))
    considered = len(left)

    def attribute() -> Scores:
        if running.progress:
            running.progress(considered - len(left), considered - wanted[-1], "attributing again")
        return inside_scores(
            model,
            pairs,
            left,
            metric=running.metric or pairs.metric,
            steps=steps,
            batch_size=running.batch_size,
            ablation=running.outside.ablation,
        )

    scores, fresh = attribute() if start is None else start, True
    circuits: list[CircuitGraph] = []
    for target in wanted:
        while len(left) > target:
            scores = scores if fresh else attribute()
            left = connected(_highest(scores, max(target, int(keep * len(left))), absolute))
            fresh = False
        circuits.append(_graph(scores, left, "iterated", target, considered, absolute))
    return circuits


def _highest(scores: Scores, n: int, absolute: bool) -> list[Edge]:
    from patching.sites import parse_edge

    return [parse_edge(name) for name in scores.ranked(absolute)[:n]]


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
    from patching.sites import edges, parse_edge

    if least < 0:
        raise MethodError(f"least must not be negative, given {least}")
    anatomy = model.anatomy
    known = list(edges(anatomy))
    begin = known if start is None else list(start)
    chosen = {e if not isinstance(e, str) else parse_edge(e, anatomy) for e in begin}
    trial = _Trial.of(model, pairs, chosen, running)
    kept: dict[Edge, np.ndarray] = {}
    leading = {"logits"}
    now = trial.metric()
    order = [edge for edge in reversed(known) if edge in chosen]
    for done, edge in enumerate(order):
        trial.switch(edge, False)
        if edge.receiver.name not in leading:
            continue
        without = trial.metric()
        if abs(float((now - without).mean())) < least:
            now = without
        else:
            trial.switch(edge, True)
            kept[edge] = now - without
            leading.add(edge.sender.name)
        if running.progress:
            running.progress(done + 1, len(order), "pruning edge by edge")
    scores = trial.scores(kept, pairs, model)
    left = connected([edge for edge in known if edge in kept])
    return _graph(scores, left, "acdc", len(order), len(known), least=least)


class _Trial:
    """A circuit whose edges are switched off and on, run on all prompts."""

    def __init__(self, runners: list[CircuitRunner], wiring: Wiring, metric: str) -> None:
        from patching.metrics import check_metric
        from patching.sites import senders

        self.runners = runners
        self.wiring = wiring
        self.checked = check_metric(metric)
        self.column = {site: i for i, site in enumerate(senders(runners[0].model.anatomy))}

    @classmethod
    def of(
        cls, model: Model, pairs: PromptPairs, edges: Iterable[Edge], running: Running
    ) -> _Trial:
        """All batches with their ablated run, and a wiring of its own."""
        from patching.circuit_run import Wiring, runners

        wiring = Wiring.of(edges, model.anatomy)
        batches = runners(model, pairs, running.batch_size, running.outside.ablation)
        return cls(list(batches), wiring, running.metric or pairs.metric)

    def switch(self, edge: Edge, on: bool) -> None:
        """Put an edge into the circuit, or take it out."""
        self._row(edge.receiver, edge.port)[self.column[edge.sender]] = on

    def _row(self, receiver: Site, port: str | None) -> np.ndarray:
        if receiver.kind == "head":
            return self.wiring.heads[receiver.layer]["qkv".index(port or ""), receiver.unit]
        if receiver.kind == "mlp":
            return self.wiring.mlps[receiver.layer]
        return self.wiring.logits

    def metric(self) -> np.ndarray:
        """The metric of every prompt in the circuit as it stands."""
        values = [
            self.checked(runner.logits(self.wiring), runner.batch.pairs) for runner in self.runners
        ]
        return np.concatenate([value.double().cpu().numpy() for value in values])

    def scores(self, kept: dict[Edge, np.ndarray], pairs: PromptPairs, model: Model) -> Scores:
        """The kept edges' effects as scores."""
        from patching.scores import Scores

        effects = np.array(list(kept.values())).reshape(len(kept), len(pairs))
        return Scores(
            names=tuple(edge.name for edge in kept),
            totals=effects.sum(1),
            squares=(effects**2).sum(1),
            count=len(pairs),
            level="edge",
            method="acdc",
            direction="noising",
            metric=self.checked.name,
            anatomy=model.anatomy,
            task=pairs.task,
            model_hash=model.hash,
        )
