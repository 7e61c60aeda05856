"""Does one circuit answer all prompts? Prompts grouped by their own scores, a circuit each.

1. Every prompt has its own scores of all edges. They are scaled to length 1, so that what counts is
   which edges carry the difference and not how large it is, and clustered by k-means.
2. Each cluster gives a circuit, chosen as that of all prompts is chosen.
3. Held-out prompts are given to the nearest centre by their own scores, and answered by the circuit
   of that cluster; the circuit of all prompts answers them too. The gain is the difference in
   faithfulness. Beside it stand random partitions into clusters of the same sizes: to split prompts
   at random gains nothing but costs prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from circuits.discover import find, measure
from circuits.evaluate import edges_of
from circuits.evaluation.areas import faithfulness
from circuits.evaluation.outcomes import Outcomes, undefined
from circuits.evaluation.outcomes import measure as run_circuits
from circuits.evaluation.running import PLAIN, Running
from circuits.results.intervals import Draws, Ends, bootstrap, percent
from circuits.results.report import Report, Reported
from circuits.results.tables import Rows, Table
from tasks.errors import RunError, counted

if TYPE_CHECKING:
    from circuits.config import Config
    from circuits.selection.scored import ScoreSet
    from graphs import CircuitGraph
    from patching.model import Model
    from tasks import PromptPairs

RANDOM = 3
"""Random partitions that stand beside the clusters."""
LEAST_ALIKE = 1e-12


@dataclass(frozen=True)
class Clusters(Reported):
    """Prompts in clusters, a circuit for each, and what that gains on held-out prompts.

    labels    the cluster of every prompt of discovery
    graphs    the circuit of each cluster
    every     the circuit of all prompts
    assigned  the cluster of every held-out prompt
    outcomes  held-out prompts: the whole model, nothing, the circuit of all, that of each cluster
    random    gains of random partitions of the same sizes
    columns   how many prompts of each template (or group of a file's column) each cluster has
    """

    labels: Int[np.ndarray, " n"]
    graphs: tuple[CircuitGraph, ...]
    every: CircuitGraph
    assigned: Int[np.ndarray, " m"]
    outcomes: Outcomes
    random: tuple[float, ...]
    columns: dict[str, tuple[tuple[str, tuple[int, ...]], ...]]
    seed: int = 0

    @property
    def gain(self) -> float:
        """Faithfulness of each prompt's own circuit less that of the circuit of all."""
        return float(self._gains(np.arange(self.outcomes.n)[None])[0])

    @property
    def interval(self) -> Ends | None:
        """Paired bootstrap interval (95 %) of the gain over held-out prompts."""
        return bootstrap(self._gains, self.outcomes.n, self.seed)

    def _gains(self, draws: Draws) -> Float[np.ndarray, " times"]:
        return gains(self.outcomes, self.assigned, draws)

    @property
    def worth_it(self) -> bool:
        """Whether a circuit for each cluster is surely better than one, and than chance."""
        ends = self.interval if self.outcomes.defined else None
        return ends is not None and ends[0] > 0 and self.gain > max(self.random, default=0.0)

    def rows(self) -> dict[str, str]:
        """Label and value of a table."""
        sizes = Counter(self.labels.tolist())
        rows = {
            "clusters": ", ".join(
                f"{k + 1}: {counted(sizes[k], 'prompt')}, {counted(len(graph), 'edge')}"
                for k, graph in enumerate(self.graphs)
            ),
            "overlap of their circuits": f"Jaccard {self._overlap():.2f}, mean over pairs",
            "held-out prompts": ", ".join(
                f"{k + 1}: {int((self.assigned == k).sum())}" for k in range(len(self.graphs))
            ),
        }
        if not self.outcomes.defined:
            return rows | {"gain": undefined(self.outcomes)}
        one = percent(float(self.outcomes.faithfulness[0]), self.outcomes.interval(0, self.seed))
        chance = f"{100 * min(self.random):.1f} to {100 * max(self.random):.1f}"
        verdict = "a circuit for each cluster is worth it" if self.worth_it else "one circuit does"
        return rows | {
            "one circuit for all": f"faithfulness {one} %",
            "gain of one for each": f"{percent(self.gain, self.interval)} points; random "
            f"partitions of the same sizes {chance}: {verdict}",
        }

    def _overlap(self) -> float:
        sets = [set(edges_of(graph)) for graph in self.graphs]
        return float(np.mean([len(a & b) / max(1, len(a | b)) for a, b in combinations(sets, 2)]))

    def tables(self) -> list[Table]:
        """What is in the clusters: prompts by template, and by each of their file's columns."""
        head = [f"cluster {k + 1}" for k in range(len(self.graphs))]
        return [
            Table([name, *head], [[value, *map(str, counts)] for value, counts in rows])
            for name, rows in self.columns.items()
            # A column with nearly a value for every prompt says nothing of clusters.
            if 1 < len(rows) <= len(self.labels) // 2
        ]

    def report(self) -> Report:
        """The rows, and what is in the clusters."""
        return Report.of(Rows(self.rows()), *self.tables())

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        known = self.outcomes.defined
        return {
            "clusters": len(self.graphs),
            "labels": self.labels.tolist(),
            "edges": [len(graph) for graph in self.graphs],
            "overlap": self._overlap(),
            "held_out": self.outcomes.n,
            "assigned": self.assigned.tolist(),
            "faithfulness_of_one": float(self.outcomes.faithfulness[0]) if known else None,
            "gain": self.gain if known else None,
            "interval": self.interval if known else None,
            "random_gains": list(self.random) if known else None,
            "worth_it": self.worth_it,
            "by": {name: dict(rows) for name, rows in self.columns.items()},
        }


def gains(
    outcomes: Outcomes, assigned: Int[np.ndarray, " m"], draws: Draws
) -> Float[np.ndarray, " times"]:
    """``f(own circuit) - f(circuit of all)`` for every draw of held-out prompts."""
    own = outcomes.circuits[1 + assigned, np.arange(outcomes.n)]
    full, empty, one, mine = (
        row[draws].mean(1) for row in (outcomes.full, outcomes.empty, outcomes.circuits[0], own)
    )
    return faithfulness(full, empty, mine) - faithfulness(full, empty, one)


def check_clusters(k: int, prompts: int | None) -> None:
    """Refuse a number of clusters that cannot be, as far as it is known how many prompts there are.

    Raises:
        RunError: fewer than two clusters, or more than prompts.
    """
    if k < 2:
        raise RunError(f"--clusters {k}: give at least 2; one circuit for all is found without it")
    if prompts is not None and k > prompts:
        raise RunError(
            f"--clusters {k}: there are {counted(prompts, 'prompt')} to be grouped; give at "
            f"most that many clusters, or more prompts (--n)"
        )


def clusters(
    config: Config,
    model: Model,
    pairs: PromptPairs,
    others: PromptPairs,
    k: int,
    seed: int = 0,
    running: Running = PLAIN,
) -> Clusters:
    """Cluster ``pairs`` by their scores, find a circuit for each, and test all on ``others``.

    Raises:
        RunError: fewer than two clusters, more than prompts, or prompts that all score the same.
    """
    check_clusters(k, pairs.prompts)
    options = running.afresh(config.batch_size)
    scored = measure(config, model, pairs, options, keep_rows=True)
    rows = _directions(scored.per_prompt)
    labels = _told_apart(rows, k, seed)
    centres = np.stack([rows[labels == each].mean(0) for each in range(k)])
    theirs = _directions(measure(config, model, others, options, keep_rows=True).per_prompt)
    assigned = _nearest(theirs, centres)
    every = find(config, scored, model, pairs, options)
    graphs = tuple(_circuits(config, scored, model, pairs, labels, running))
    rng = np.random.default_rng(seed)
    partitions = [rng.permutation(labels) for _ in range(RANDOM)]
    by_chance = [
        graph
        for partition in partitions
        for graph in _circuits(config, scored, model, pairs, partition, running)
    ]
    tested = [edges_of(graph) for graph in (every, *graphs, *by_chance)]
    outcomes = run_circuits(model, others, tested, running)
    return Clusters(
        labels,
        graphs,
        every,
        assigned,
        outcomes.part(range(1 + k)),
        _random_gains(outcomes, k, assigned, rng),
        _columns(pairs, labels, k),
        seed,
    )


def _random_gains(
    outcomes: Outcomes, k: int, assigned: Int[np.ndarray, " m"], rng: np.random.Generator
) -> tuple[float, ...]:
    """Gains of random partitions, held-out prompts dealt to their circuits at random."""
    by_chance = []
    for number in range(RANDOM):
        mine = range(1 + k * (number + 1), 1 + k * (number + 2))
        part, whole = outcomes.part([0, *mine]), np.arange(outcomes.n)[None]
        by_chance.append(float(gains(part, rng.permutation(assigned), whole)[0]))
    return tuple(by_chance)


def _directions(rows: Float[np.ndarray, "n names"]) -> Float[np.ndarray, "n names"]:
    """Every prompt's scores at length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), LEAST_ALIKE)


def _told_apart(rows: Float[np.ndarray, "n names"], k: int, seed: int) -> Int[np.ndarray, " n"]:
    """The cluster of every prompt, the largest first.

    Raises:
        RunError: the prompts have too similar scores for so many clusters.
    """
    from sklearn.cluster import KMeans

    # Distances depend on inner products alone, so as many coordinates do as there are prompts.
    left, sizes, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    points = left * sizes
    if len(np.unique(points.round(9), axis=0)) < k:
        raise RunError(
            f"these prompts have too similar scores for {k} clusters: {len(rows)} have fewer "
            f"different scores than that; give fewer clusters"
        )
    labels = KMeans(k, n_init=10, random_state=seed).fit(points).labels_
    order = np.argsort(-np.bincount(labels, minlength=k), kind="stable")
    return np.argsort(order)[labels]


def _nearest(
    rows: Float[np.ndarray, "m names"], centres: Float[np.ndarray, "k names"]
) -> Int[np.ndarray, " m"]:
    distances = (centres**2).sum(1)[None] - 2 * rows @ centres.T
    nearest: np.ndarray = distances.argmin(1)
    return nearest


def _circuits(
    config: Config,
    scored: ScoreSet,
    model: Model,
    pairs: PromptPairs,
    labels: Int[np.ndarray, " n"],
    running: Running,
) -> Sequence[CircuitGraph]:
    """The circuit of each cluster's own prompts."""
    options = running.afresh(config.batch_size, progress=None)
    circuits = []
    for each in range(int(labels.max()) + 1):
        mine = np.flatnonzero(labels == each)
        circuits.append(find(config, scored.drawn(mine), model, pairs.drawn(mine), options))
    return circuits


def _columns(
    pairs: PromptPairs, labels: Int[np.ndarray, " n"], k: int
) -> dict[str, tuple[tuple[str, tuple[int, ...]], ...]]:
    """How many prompts of each value of each column every cluster has."""
    names = [*(["template"] if any(pairs.templates) else []), *pairs.columns]
    columns = {}
    for name in dict.fromkeys(names):
        values = np.array(pairs.column(name))
        kinds = list(dict.fromkeys(values.tolist()))
        counts = [np.bincount(labels[values == kind], minlength=k) for kind in kinds]
        columns[name] = tuple(
            (kind, tuple(row.tolist())) for kind, row in zip(kinds, counts, strict=True)
        )
    return columns
