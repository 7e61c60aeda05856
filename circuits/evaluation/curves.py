"""Faithfulness by size of the circuit: the curve of the MIB benchmark, its areas, accuracy beside.

    f(k) = (m(C_k) - m(empty)) / (m(full) - m(empty))

``C_k`` holds the ``int(k N)`` highest of ``N`` scored edges, without those that do not connect
input to logits; outside it is the corrupted run, or what another ablation puts there. MIB
(arXiv 2504.13151) ranks by signed score for CPR and by ``|score|`` for CMD; both areas are given
for both rankings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from circuits.evaluation.areas import KINDS, area
from circuits.evaluation.outcomes import Outcomes, measure, undefined
from circuits.evaluation.running import PLAIN, Running
from circuits.results.intervals import Draws, Ends, bootstrap, weights
from patching.nodes.edges import EdgeSet
from patching.placed import Wiring, whole_cost
from patching.placed_budget import PlacedScores, plain_at_cost
from tasks.errors import MethodError, RunError, unknown

if TYPE_CHECKING:
    import pandas as pd

    from patching.model import Model
    from patching.scores import Scores
    from tasks import PromptPairs

SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
RANKINGS = ("signed", "absolute")
BEST = {"cpr": "signed", "cmd": "absolute", "log_cpr": "signed", "log_cmd": "absolute"}
"""The ranking under which MIB takes each area."""


@dataclass(frozen=True)
class Curve:
    """Faithfulness at growing sizes.

    sizes      shares of all scored edges (of node scores: nodes; at places: of the cost of all,
               see patching.placed)
    requested  how many that is
    kept       how many edges were left once those that connect nothing had been dropped
    outcomes   what the circuits answered, prompt by prompt
    """

    name: str
    ranking: str
    sizes: tuple[float, ...]
    requested: tuple[int, ...]
    kept: tuple[int, ...]
    outcomes: Outcomes

    @property
    def faithfulness(self) -> Float[np.ndarray, " sizes"]:
        """f at every size; NaN where the model does not do the task."""
        return self.outcomes.faithfulness

    def area(self, kind: str) -> float | None:
        """``cpr``, ``cmd``, ``log_cpr`` or ``log_cmd``; None where faithfulness is undefined."""
        if not self.outcomes.defined:
            return None
        return float(area(self.sizes, self.faithfulness, _kind(kind)))

    def interval(self, kind: str, seed: int = 0) -> Ends | None:
        """Bootstrap interval (95 %) of an area over prompts; None where it is undefined."""
        if not self.outcomes.defined:
            return None
        return bootstrap(lambda draws: self._areas(draws, kind), self.outcomes.n, seed)

    def gap(self, other: Curve, kind: str, seed: int = 0) -> tuple[float, Ends] | None:
        """This area less another curve's on the same prompts, and its paired bootstrap interval.

        Raises:
            RunError: the curves were measured on different prompts.
        """
        if not np.array_equal(self.outcomes.full, other.outcomes.full):
            raise RunError("curves over different prompts cannot be compared prompt by prompt")
        mine, theirs = self.area(kind), other.area(kind)
        if mine is None or theirs is None:
            return None
        interval = bootstrap(
            lambda draws: self._areas(draws, kind) - other._areas(draws, kind),
            self.outcomes.n,
            seed,
        )
        return None if interval is None else (mine - theirs, interval)

    def _areas(self, draws: Draws, kind: str) -> np.ndarray:
        return area(self.sizes, self.outcomes.weighted(weights(draws)), _kind(kind))

    def preferred(self) -> Float[np.ndarray, " sizes"]:
        """Share of prompts whose answer beats the counterfactual, at every size."""
        return self.outcomes.preferred[2:].mean(axis=1)

    def right(self) -> Float[np.ndarray, " sizes"]:
        """Share of prompts whose most likely next token is an answer, at every size."""
        return self.outcomes.right[2:].mean(axis=1)

    def to_json(self, seed: int = 0) -> dict[str, Any]:
        """Plain values for a file; what is undefined is null."""
        known = self.outcomes.defined
        return {
            "name": self.name,
            "ranking": self.ranking,
            "sizes": list(self.sizes),
            "requested": list(self.requested),
            "kept": list(self.kept),
            "faithfulness": self.faithfulness.tolist() if known else None,
            "preferred": self.preferred().tolist(),
            "right": self.right().tolist(),
            "areas": {kind: self.area(kind) for kind in KINDS},
            "intervals": {kind: self.interval(kind, seed) for kind in KINDS},
            "undefined": None if known else undefined(self.outcomes),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per size; faithfulness is NaN where it is undefined."""
        import pandas as pd

        columns = {
            "size": self.sizes,
            "requested": self.requested,
            "kept": self.kept,
            "faithfulness": self.faithfulness,
            "preferred": self.preferred(),
            "right": self.right(),
        }
        return pd.DataFrame(columns).set_index("size")

    def _repr_html_(self) -> str:
        from circuits.evaluation.plot_curves import curves_report

        return curves_report([self]).html()

    def __repr__(self) -> str:
        if not self.outcomes.defined:
            return f"Curve({self.name}, {self.ranking}: undefined)"
        areas = ", ".join(f"{kind} {self.area(kind):.3f}" for kind in KINDS)
        return f"Curve({self.name}, {self.ranking}: {areas})"


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise MethodError(unknown("area", kind, KINDS))
    return kind


@dataclass(frozen=True)
class Plan:
    """Circuits of growing size, still to be run: the edges at each size."""

    name: str
    ranking: str
    sizes: tuple[float, ...]
    requested: tuple[int, ...]
    circuits: tuple[Wiring, ...]


def plan(
    scores: Scores, ranking: str = "signed", sizes: Sequence[float] = SIZES, name: str = ""
) -> Plan:
    """The circuits of a ranking: at each size the highest scores that connect input to logits.

    Raises:
        MethodError: an unknown ranking, scores of single activations, or sizes that do not grow.
    """
    if ranking not in RANKINGS:
        raise MethodError(unknown("ranking", ranking, RANKINGS))
    if scores.level == "site":
        raise MethodError("a curve needs scores of edges or nodes, given scores of sites")
    if not all(0 < size <= 1 for size in sizes) or list(sizes) != sorted(set(sizes)):
        raise MethodError(f"sizes must grow from above 0 to at most 1, given {list(sizes)}")
    if (placed := PlacedScores.of(scores)) is not None:
        return _at_places(placed, ranking == "absolute", sizes, name or scores.method)
    requested = tuple(int(size * len(scores)) for size in sizes)
    circuits = at_counts(scores, requested, ranking == "absolute")
    return Plan(name or scores.method, ranking, tuple(sizes), requested, circuits)


def _at_places(scores: PlacedScores, absolute: bool, sizes: Sequence[float], name: str) -> Plan:
    """Circuits at places by what they cost, as shares of what the whole model costs."""
    order, whole = scores.order(absolute), whole_cost(scores.layout)
    budgets = [size * whole for size in sizes]
    circuits = [scores.circuit(order[: scores.affordable(order, each)]) for each in budgets]
    ranking = "absolute" if absolute else "signed"
    return Plan(name, ranking, tuple(sizes), tuple(map(int, budgets)), tuple(circuits))


def plain_plan(scores: Scores, ranking: str = "absolute", sizes: Sequence[float] = SIZES) -> Plan:
    """The plain circuits of scores at places, on the same axis of cost."""
    placed = PlacedScores.of(scores)
    if placed is None:
        raise MethodError("plain circuits stand beside circuits at places; these scores have none")
    values = placed.plain()
    order = np.argsort(-(np.abs(values) if ranking == "absolute" else values), kind="stable")
    budgets = [size * whole_cost(placed.layout) for size in sizes]
    circuits = plain_at_cost(placed.layout, order, budgets)
    return Plan("plain", ranking, tuple(sizes), tuple(map(int, budgets)), tuple(circuits))


def at_counts(scores: Scores, counts: Sequence[int], absolute: bool) -> tuple[EdgeSet, ...]:
    """The circuits of the strongest edges, or nodes, without what connects nothing."""
    order = np.argsort(-(np.abs(scores.values) if absolute else scores.values))
    choose = _edges_among if scores.level == "edge" else _edges_between
    return choose(scores, order, counts)


def _edges_among(scores: Scores, order: np.ndarray, counts: Sequence[int]) -> tuple[EdgeSet, ...]:
    layout, numbers = scores.edges()
    return tuple(EdgeSet.numbered(layout, numbers[order[:count]]).connected() for count in counts)


def _edges_between(scores: Scores, order: np.ndarray, counts: Sequence[int]) -> tuple[EdgeSet, ...]:
    from patching.sites import parse_site

    ranked = [parse_site(scores.names[i]) for i in order[: max(counts)]]
    return tuple(EdgeSet.among(ranked[:n], scores.anatomy).connected() for n in counts)


def run_plans(
    model: Model,
    pairs: PromptPairs,
    plans: Sequence[Plan],
    running: Running = PLAIN,
) -> list[Curve]:
    """The curve of every plan; all are run on the same prompts, and equal circuits only once."""
    every = distinct(plans)
    outcomes = measure(model, pairs, list(every), running)
    curves = []
    for each in plans:
        rows = [every[circuit] for circuit in each.circuits]
        kept = tuple(len(circuit) for circuit in each.circuits)
        part = outcomes.part(rows)
        curves.append(Curve(each.name, each.ranking, each.sizes, each.requested, kept, part))
    return curves


def distinct(plans: Sequence[Plan]) -> dict[Wiring, int]:
    """The circuits of all plans, each once, with its number."""
    numbers: dict[Wiring, int] = {}
    for each in plans:
        for circuit in each.circuits:
            numbers.setdefault(circuit, len(numbers))
    return numbers


def curve(
    model: Model,
    pairs: PromptPairs,
    scores: Scores,
    ranking: str = "signed",
    running: Running = PLAIN,
) -> Curve:
    """The MIB curve of one ranking."""
    return run_plans(model, pairs, [plan(scores, ranking)], running)[0]
