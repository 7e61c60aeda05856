"""Everything there is to measure about a circuit, on prompts it was not found on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.evaluate import edges_of
from circuits.evaluation.areas import KINDS
from circuits.evaluation.completeness import (
    Completeness,
    Minimality,
    RandomBaseline,
    completeness,
    cut_runs,
    minimality,
    random_baseline,
)
from circuits.evaluation.curves import Curve, Plan, distinct, plain_plan, plan, run_plans
from circuits.evaluation.outcomes import Outcomes, measure, undefined
from circuits.evaluation.reference import Agreement, agreement
from circuits.evaluation.running import Running
from circuits.results.intervals import Ends, verdict
from circuits.results.report import Report, Reported
from circuits.results.tables import Rows
from graphs.choose import check_comparable
from patching.ablation.kinds import outside
from patching.nodes.edges import EdgeSet
from patching.placed import tied

if TYPE_CHECKING:
    import pandas as pd

    from circuits.clock import Progress
    from circuits.held_out.rediscovery import Rediscovery
    from graphs import CircuitGraph
    from patching.ablation.means import MeanActivations
    from patching.model import Model
    from patching.scores import Scores
    from tasks import PromptPairs

KIND, SCHEMA_VERSION = "circuits evaluation", "1.2"
CUTS = RANDOM = 10
MOST_MINIMAL = 300
"""Edges above which a circuit is not tested for minimality: one run for each."""


@dataclass(frozen=True)
class HeldOutEvaluation(Reported):
    """What held-out prompts say about a circuit. Where nothing is recoverable, only ``outcomes``.

    outcomes      whole model, empty circuit, the circuit
    curves        the MIB curves of its scores, and of the same scores dealt out at random
    minimality    None for a circuit of more than 300 edges
    ablation      what stood in for everything outside the circuits
    rediscoveries what other draws of the discovery's prompts would have given, where asked for
    """

    outcomes: Outcomes
    size: int
    curves: tuple[Curve, ...] = ()
    completeness: Completeness | None = None
    minimality: Minimality | None = None
    random_baseline: RandomBaseline | None = None
    agreement: Agreement | None = None
    seed: int = 0
    ablation: str = "corrupted"
    rediscoveries: Rediscovery | None = None

    @property
    def faithfulness(self) -> float | None:
        """Share of the metric that the circuit recovers alone; None where undefined."""
        return float(self.outcomes.faithfulness[0]) if self.outcomes.defined else None

    @property
    def interval(self) -> Ends | None:
        """Bootstrap interval (95 %) of the faithfulness over prompts."""
        return self.outcomes.interval(0, self.seed) if self.outcomes.defined else None

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        parts = {
            name: None if (part := getattr(self, name)) is None else part.to_json()
            for name in (
                "completeness",
                "minimality",
                "random_baseline",
                "agreement",
                "rediscoveries",
            )
        }
        full, empty, circuit = self.outcomes.metric.mean(axis=1).tolist()
        return {
            "metric": self.outcomes.name,
            "ablation": self.ablation,
            "n": self.outcomes.n,
            "full": full,
            "empty": empty,
            "circuit": circuit,
            "edges": self.size,
            "faithfulness": self.faithfulness,
            "interval": self.interval,
            "preferred": self.outcomes.preferred.mean(axis=1).tolist(),
            "right": self.outcomes.right.mean(axis=1).tolist(),
            "undefined": None if self.outcomes.defined else undefined(self.outcomes),
            "curves": [curve.to_json(self.seed) for curve in self.curves],
            **parts,
        }

    def rows(self) -> dict[str, str]:
        """What a table of this examination says: label and value."""
        full, empty, circuit = self.outcomes.metric.mean(axis=1)
        preferred, right = (
            f"{share[0]:.1%} by the whole model, {share[1]:.1%} with all of it ablated, "
            f"{share[2]:.1%} by the circuit"
            for share in (self.outcomes.preferred.mean(1), self.outcomes.right.mean(1))
        )
        rows = {
            "held-out prompts": str(self.outcomes.n),
            "outside the circuit": self.ablation,
            self.outcomes.name: f"clean {full:+.3f}, ablated {empty:+.3f}, circuit {circuit:+.3f}",
        }
        if not self.outcomes.defined:
            return rows | {"faithfulness": undefined(self.outcomes)}
        rows["faithfulness"] = verdict(self.faithfulness, self.interval)
        rows["answer preferred"] = preferred
        rows["answer on top"] = right
        return rows | self._completeness()

    def to_frame(self) -> pd.DataFrame:
        """One row per measure: its value, and the ends of its interval or spread where it has one.

        The curves have frames of their own.
        """
        import pandas as pd

        rows: dict[str, tuple[float | None, Ends | None]] = {
            "faithfulness": (self.faithfulness, self.interval)
        }
        for curve in self.curves:
            for kind in KINDS:
                name = f"{kind} ({curve.name}, {curve.ranking})"
                rows[name] = curve.area(kind), curve.interval(kind, self.seed)
        if self.random_baseline is not None:
            rows["random circuits"] = (
                float(np.mean(self.random_baseline.random)),
                self.random_baseline.spread,
            )
        if self.completeness is not None:
            rows["completeness gap"] = self.completeness.gap, None
            rows["without the circuit"] = self.completeness.without, None
        if self.minimality is not None:
            rows["edges below noise"] = self.minimality.share_below_noise, None
        if self.agreement is not None:
            rows |= {name: (value, None) for name, value in shares(self.agreement).items()}
        if self.rediscoveries is not None:
            rows |= self.rediscoveries.measures()
        values = [(value, *(ends or (None, None))) for value, ends in rows.values()]
        index = pd.Index(rows, name="measure")
        return pd.DataFrame(values, index, ["value", "low", "high"], dtype=float)

    def __repr__(self) -> str:
        share = "undefined" if self.faithfulness is None else f"{self.faithfulness:.3f}"
        size = f"{self.size} edges, {self.outcomes.n} prompts"
        return f"HeldOutEvaluation({size}: faithfulness {share})"

    def report(self) -> Report:
        """The rows, and the curves."""
        from circuits.evaluation.plot_curves import curves_report

        curves = curves_report(self.curves).blocks if self.curves else ()
        return Report.of(Rows(self.rows()), *curves)

    def _completeness(self) -> dict[str, str]:
        rows = {}
        if self.random_baseline is not None:
            low, high = self.random_baseline.spread
            rows["random circuits"] = (
                f"{np.mean(self.random_baseline.random):.1%} ({low:.1%} to {high:.1%}, "
                f"{len(self.random_baseline.random)} of at most {self.size} edges)"
            )
        if self.completeness is not None:
            rows["completeness"] = (
                f"without random halves of the circuit, circuit and whole model differ by "
                f"{self.completeness.gap:.1%}; the model without the circuit keeps "
                f"{self.completeness.without:.1%}"
            )
        if self.minimality is not None:
            rows["minimality"] = (
                f"{self.minimality.share_below_noise:.1%} of {self.size} edges make no difference "
                f"above noise"
            )
        if self.agreement is not None:
            measures = shares(self.agreement).items()
            rows["reference"] = ", ".join(f"{name} {value:.3f}" for name, value in measures)
        return rows | (self.rediscoveries.rows() if self.rediscoveries is not None else {})


def shares(with_reference: Agreement) -> dict[str, float]:
    """Agreement with a reference, by name, as far as it is defined."""
    values = {"AUROC": with_reference.auroc, "precision": with_reference.precision}
    values |= {"recall": with_reference.recall, "Jaccard": with_reference.jaccard}
    return {name: value for name, value in values.items() if value is not None}


def evaluate_held_out(
    graph: CircuitGraph,
    scores: Scores,
    model: Model,
    pairs: PromptPairs,
    *,
    reference: CircuitGraph | None = None,
    metric: str | None = None,
    ablation: str = "corrupted",
    means: MeanActivations | None = None,
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> HeldOutEvaluation:
    """Faithfulness, curves with CPR and CMD, completeness, minimality, random circuits, reference.

    ``pairs`` are prompts that the circuit was not found on. Where the model does not do the task
    on them, only the two metrics are given. ``ablation`` stands in outside the circuits; the means
    that it needs are those of ``pairs`` unless ``means`` of another prompt set are given.
    The result's ``to_frame()`` has all of it, ``curves`` the faithfulness at every size.

    >>> scores = circuits.score(model, pairs)
    >>> others = circuits.load_task("ioi").pairs(model.tokenizer, n=16, seed=1)
    >>> circuits.evaluate_held_out(graph, scores, model, others)
    HeldOutEvaluation(... edges, 16 prompts: faithfulness ...)

    Raises:
        SiteError: the circuit has an edge that the model does not have.
        FormatError: the reference is of a model of another shape, or of another level.
        MethodError: an ablation that cannot stand in for every sender, or means that do not fit.
    """
    kind = outside(ablation).name
    running = Running(batch_size, progress, metric=metric, ablation=kind, means=means)
    if reference is not None:
        check_comparable(reference, graph)
    return held_out_evaluation(graph, scores, model, pairs, running, reference, seed)


def held_out_evaluation(
    graph: CircuitGraph,
    scores: Scores,
    model: Model,
    pairs: PromptPairs,
    running: Running,
    reference: CircuitGraph | None,
    seed: int,
) -> HeldOutEvaluation:
    """See :func:`evaluate_held_out`."""
    if running.progress:
        running.progress(0, 0, "ranking edges")
    if tied(edges_of(graph)):
        return _at_places(graph, scores, model, pairs, running, seed)
    circuit, ablation = EdgeSet.of(edges_of(graph), model.anatomy), running.ablation
    nodes = circuit.layout.nodes
    small, size, plans = 0 < len(circuit) <= MOST_MINIMAL, len(circuit), _plans(scores, seed)
    runs = 1 + len(distinct(plans)) + cut_runs(CUTS) + (size + 1) * small + RANDOM * bool(size)
    running = running.settled(model, pairs, nodes).counting(runs * len(pairs), "running circuits")
    outcomes = measure(model, pairs, [circuit], running)
    if not outcomes.defined:
        return HeldOutEvaluation(outcomes, len(circuit), seed=seed, ablation=ablation)
    return HeldOutEvaluation(
        outcomes,
        size,
        tuple(run_plans(model, pairs, plans, running)),
        completeness(model, pairs, circuit, cuts=CUTS, seed=seed, running=running),
        minimality(model, pairs, circuit, running) if small else None,
        random_baseline(model, pairs, size, nodes=nodes, times=RANDOM, seed=seed, running=running)
        if circuit
        else None,
        None if reference is None else agreement(graph, reference, scores),
        seed,
        ablation,
    )


def _at_places(
    graph: CircuitGraph,
    scores: Scores,
    model: Model,
    pairs: PromptPairs,
    running: Running,
    seed: int,
) -> HeldOutEvaluation:
    """A circuit at places, and its curves over cost with that of plain circuits beside them.

    Completeness, minimality and random circuits of equal size are asked of plain circuits.
    """
    names, ablation = edges_of(graph), running.ablation
    plans = [*_plans(scores, seed), plain_plan(scores)]
    total = (1 + len(distinct(plans))) * len(pairs)
    running = running.settled(model, pairs).counting(total, "running circuits")
    outcomes = measure(model, pairs, [names], running)
    curves = run_plans(model, pairs, plans, running) if outcomes.defined else []
    return HeldOutEvaluation(outcomes, len(names), tuple(curves), seed=seed, ablation=ablation)


def _plans(scores: Scores, seed: int) -> list[Plan]:
    dealt = np.random.default_rng(seed).permutation(scores.totals)
    random = replace(scores, totals=dealt, squares=None)
    return [
        plan(scores, "signed"),
        plan(scores, "absolute"),
        plan(random, "signed", name="random"),
    ]
