"""Is a circuit complete, minimal, and better than chance? All on prompts it was not found on.

Completeness (Wang et al. 2023): what is cut inside the circuit should do to it what the same cut
does to the whole model. Minimality: every edge should matter in the circuit. RandomBaseline: random
circuits of the same size that connect input to logits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from circuits.evaluation.areas import NOISE
from circuits.evaluation.outcomes import Outcomes, measure
from circuits.evaluation.running import PLAIN, Running
from circuits.results.intervals import Ends
from patching.nodes.edges import EdgeSet
from patching.nodes.layout import Layout, layout_of
from tasks.errors import MethodError

if TYPE_CHECKING:
    from patching.model import Model
    from patching.sites import Edge
    from tasks import PromptPairs

TRIES = 200


@dataclass(frozen=True)
class Completeness:
    """Random halves of the circuit cut from the circuit and from the whole model.

    circuit, model   faithfulness of either after each cut
    without          faithfulness of the model without the whole circuit: near 0 if the circuit
                     holds everything that does the task
    """

    circuit: tuple[float, ...]
    model: tuple[float, ...]
    without: float

    @property
    def gap(self) -> float:
        """Mean distance between the two over the cuts: 0 for a complete circuit."""
        return float(np.mean(np.abs(np.subtract(self.circuit, self.model))))

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {
            "circuit": list(self.circuit),
            "model": list(self.model),
            "without": self.without,
            "gap": self.gap,
        }


@dataclass(frozen=True)
class Minimality:
    """What the circuit loses, in units of the metric, when one of its edges is cut.

    ``effects`` are means over prompts, ``errors`` their standard errors, in the order of ``edges``.
    """

    edges: tuple[str, ...]
    effects: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def below_noise(self) -> tuple[str, ...]:
        """Edges whose effect is within 1.96 standard errors of none."""
        rows = zip(self.edges, self.effects, self.errors, strict=True)
        return tuple(edge for edge, effect, error in rows if abs(effect) <= NOISE * error)

    @property
    def share_below_noise(self) -> float:
        """Share of the circuit's edges that make no difference that these prompts could show."""
        return len(self.below_noise) / len(self.edges) if self.edges else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {
            "edges": list(self.edges),
            "effects": list(self.effects),
            "errors": list(self.errors),
            "share_below_noise": self.share_below_noise,
        }


@dataclass(frozen=True)
class RandomBaseline:
    """Faithfulness and sizes of random circuits, one per seed."""

    random: tuple[float, ...]
    sizes: tuple[int, ...]

    @property
    def spread(self) -> Ends:
        """The lowest and the highest of them."""
        return min(self.random), max(self.random)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        mean = float(np.mean(self.random))
        return {"faithfulness": list(self.random), "sizes": list(self.sizes), "mean": mean}


def completeness(
    model: Model,
    pairs: PromptPairs,
    circuit: Iterable[str | Edge],
    *,
    cuts: int = 10,
    share: float = 0.5,
    seed: int = 0,
    running: Running = PLAIN,
) -> Completeness:
    """Cut ``cuts`` random sets, each a ``share`` of the circuit, from the circuit and the model.

    Values are NaN where the model does not do the task (no faithfulness is defined).
    """
    rng = np.random.default_rng(seed)
    mine = EdgeSet.of(circuit, model.anatomy)
    every, numbers = EdgeSet.all(mine.layout), mine.numbers
    size = round(share * len(numbers))
    runs = [every - mine]
    for _ in range(cuts):
        cut = EdgeSet.numbered(mine.layout, numbers[rng.permutation(len(numbers))[:size]])
        runs += [mine - cut, every - cut]
    shares = measure(model, pairs, runs, running).faithfulness
    return Completeness(
        circuit=tuple(shares[1::2].tolist()),
        model=tuple(shares[2::2].tolist()),
        without=float(shares[0]),
    )


def cut_runs(cuts: int) -> int:
    """How many circuits :func:`completeness` runs for so many cuts."""
    return 1 + 2 * cuts


def minimality(
    model: Model, pairs: PromptPairs, circuit: Iterable[str | Edge], running: Running = PLAIN
) -> Minimality:
    """Cut every edge of the circuit in turn: one run of the circuit for each."""
    whole = EdgeSet.of(circuit, model.anatomy)
    singly = [EdgeSet.numbered(whole.layout, np.array([n])) for n in whole.numbers]
    runs = [whole, *(whole - edge for edge in singly)]
    kept = measure(model, pairs, runs, running).circuits
    losses: Float[np.ndarray, "edges n"] = kept[0] - kept[1:]
    errors = losses.std(axis=1) / np.sqrt(max(losses.shape[1] - 1, 1))
    return Minimality(
        edges=tuple(edge.name for edge in whole),
        effects=tuple(losses.mean(axis=1).tolist()),
        errors=tuple(errors.tolist()),
    )


def random_circuit(layout: Layout, n: int, seed: int) -> EdgeSet:
    """A union of random paths from input to logits with ``n`` edges in all, or a few fewer.

    Each path is a walk from the input that takes one of the possible next edges with equal chance;
    a path is added only if it does not go beyond ``n`` edges. So every edge connects input to
    logits, and edges into late receivers come up more often than others.

    Raises:
        MethodError: ``n`` is below 1.
    """
    if n < 1:
        raise MethodError(f"a random circuit needs at least 1 edge, given {n}")
    rng = np.random.default_rng(seed)
    kept: set[int] = set()
    failed = 0
    while len(kept) < n and failed < TRIES:
        path, at = [], 0
        while at < layout.n_senders:
            path.append(layout.leaving(at, int(rng.integers(layout.readers(at)))))
            at = layout.receiver_number(path[-1])
        fresh = set(path) - kept
        fits = bool(fresh) and len(kept) + len(fresh) <= n
        kept |= fresh if fits else set()
        failed = 0 if fits else failed + 1
    return EdgeSet.numbered(layout, np.array(sorted(kept), dtype=np.int64))


def random_baseline(
    model: Model,
    pairs: PromptPairs,
    n: int,
    *,
    nodes: str = "heads",
    times: int = 10,
    seed: int = 0,
    running: Running = PLAIN,
) -> RandomBaseline:
    """Faithfulness of ``times`` random circuits of ``n`` edges (:func:`random_circuit`)."""
    layout = layout_of(model.anatomy, nodes)
    drawn = [random_circuit(layout, n, seed + i) for i in range(times)]
    outcomes: Outcomes = measure(model, pairs, drawn, running)
    return RandomBaseline(tuple(outcomes.faithfulness.tolist()), tuple(len(each) for each in drawn))
