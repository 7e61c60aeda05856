"""What is made of direct effects: influence on the logits, pruning, and two scores of the whole.

With ``A[t, s]`` the direct effect of a source on a target, ``N = |A|`` with rows that sum to 1, and
``p`` the probabilities of the logits,

    v = p (N + N^2 + N^3 + ...) = p ((1 - N)^-1 - 1)       a node's influence
    N[t, s] (v[t] + p[t])                                  an edge's
    replacement   = v(tokens) / (v(tokens) + v(errors))
    completeness  = sum (v + p) (1 - share of errors in N[t]) / sum (v + p)

as in circuit-tracer (Ameisen et al. 2025); there as here the sum of ``completeness`` is over all
nodes, and what has no sources counts as complete. Layers follow one another, so one pass from the
last layer to the first gives the whole series.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from patching.traces.nodes import ERROR, LATENT, LOGIT, TOKEN, Nodes

TINY = 1e-10
CHUNK = 512
"""Rows whose absolute values are made at once."""


@dataclass(frozen=True)
class Adjacency:
    """Direct effects between nodes.

    effects   of every source on every target ``[targets, sources]``
    pre       what the targets are: pre-activations, or centred logits; of a pair clean minus
              corrupted ``[targets]``
    constant  what biases and positions put into that; of a pair nothing ``[targets]``
    """

    nodes: Nodes
    effects: Float[np.ndarray, "t s"]
    pre: Float[np.ndarray, " t"]
    constant: Float[np.ndarray, " t"]

    @property
    def gap(self) -> float:
        """The largest difference between a target and its effects and constant, summed."""
        sums = self.effects.sum(1, dtype=np.float64) + self.constant
        return float(np.abs(sums - self.pre).max(initial=0.0))

    @property
    def weights(self) -> Float[np.ndarray, " n"]:
        """The logits' probabilities, and zero for all other nodes."""
        return np.where(self.nodes.of(LOGIT), self.nodes.value, 0.0)


def shares(rows: Float[np.ndarray, "t s"]) -> Float[np.ndarray, "t s"]:
    """``|A|`` with rows that sum to 1; rows of zeros stay."""
    sizes = np.abs(rows)
    return sizes / np.maximum(sizes.sum(1, keepdims=True, dtype=np.float64), TINY)


def influence(
    nodes: Nodes, targets: Int[np.ndarray, " t"], effects: Float[np.ndarray, "t s"]
) -> Float[np.ndarray, " n"]:
    """Every node's influence on the logits, from the rows of some targets, in order.

    Rows may be missing: what those nodes read has no influence through them.
    """
    weights = np.where(nodes.of(LOGIT), nodes.value, 0.0)
    found, sources = np.zeros(len(nodes)), effects.shape[1]
    for rows in _layers_backwards(nodes.layer[targets]):
        at = targets[rows]
        found[:sources] += (found[at] + weights[at]) @ shares(effects[rows])
    return found


def _layers_backwards(layers: Int[np.ndarray, " t"]) -> Iterator[slice]:
    """Rows of one layer after the other, the last first, at most :data:`CHUNK` at a time."""
    stop = len(layers)
    while stop:
        start = int(np.searchsorted(layers, layers[stop - 1]))
        start = max(start, stop - CHUNK)
        yield slice(start, stop)
        stop = start


@dataclass(frozen=True, slots=True)
class GraphScores:
    """How much of the influence comes from tokens rather than from error terms."""

    replacement: float
    completeness: float


def graph_scores(found: Adjacency) -> GraphScores:
    """Both scores; a graph without any influence has none (NaN)."""
    nodes, targets = found.nodes, found.nodes.targets
    v, errors = influence(nodes, targets, found.effects), nodes.of(ERROR)
    tokens, left = float(v[nodes.of(TOKEN)].sum()), float(v[errors].sum())
    output = v + found.weights
    share = np.zeros(len(nodes))
    for rows in _layers_backwards(nodes.layer[targets]):
        columns = errors[: found.effects.shape[1]]
        share[targets[rows]] = shares(found.effects[rows])[:, columns].sum(1)
    total = float(output.sum())
    return GraphScores(
        tokens / (tokens + left) if tokens + left else float("nan"),
        float((output * (1 - share)).sum()) / total if total else float("nan"),
    )


@dataclass(frozen=True)
class Pruned:
    """What is left of a graph.

    kept       which nodes
    rows, columns, effects   its edges: target, source (numbers among all nodes), direct effect
    influence  of all nodes, in the whole graph
    reached    share of all influence that nodes at least as strong have together; tokens and
               logits too
    """

    kept: Bool[np.ndarray, " n"]
    rows: Int[np.ndarray, " e"]
    columns: Int[np.ndarray, " e"]
    effects: Float[np.ndarray, " e"]
    influence: Float[np.ndarray, " n"]
    reached: Float[np.ndarray, " n"]


def prune(found: Adjacency, node_share: float = 0.8, edge_share: float = 0.98) -> Pruned:
    """The strongest nodes that have ``node_share`` of the influence, then edges likewise.

    Tokens and logits stay. Latents without an edge in or out, and errors without one out, are then
    dropped, until nothing changes.
    """
    nodes, targets = found.nodes, found.nodes.targets
    v = influence(nodes, targets, found.effects)
    ends = nodes.of(TOKEN) | nodes.of(LOGIT)
    kept = (v >= least(v, node_share)) | ends
    few, at, columns = _within(found, kept)
    inner = influence(nodes[kept], at, few)
    output = inner + found.weights[kept]
    strength = shares(few) * output[at][:, None]
    alive = (strength > 0) & (strength >= least(strength.ravel(), edge_share))
    kept_rows = _connected(nodes, kept, targets[kept[targets]], columns, alive)
    alive &= kept_rows[targets[kept[targets]]][:, None] & kept_rows[columns][None]
    rows, cols = np.nonzero(alive)
    return Pruned(
        kept_rows,
        targets[kept[targets]][rows],
        columns[cols],
        few[rows, cols],
        v,
        _reached(v),
    )


def _within(
    found: Adjacency, kept: Bool[np.ndarray, " n"]
) -> tuple[np.ndarray, Int[np.ndarray, " t"], Int[np.ndarray, " s"]]:
    """Effects between kept nodes, the targets' numbers among the kept, the sources' among all."""
    targets = found.nodes.targets
    columns = np.flatnonzero(kept[: found.nodes.n_sources])
    few = found.effects[np.ix_(kept[targets], columns)]
    number = np.cumsum(kept) - 1
    return few, number[targets[kept[targets]]], columns


def least(values: Float[np.ndarray, " n"], share: float) -> float:
    """The smallest of the largest values that together have ``share`` of the sum."""
    if not values.size:
        return 0.0
    ranked = np.sort(values)[::-1]
    sums = np.cumsum(ranked, dtype=np.float64) / max(float(ranked.sum(dtype=np.float64)), TINY)
    return float(ranked[min(int(np.searchsorted(sums, share)), len(ranked) - 1)])


def _reached(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    order = np.argsort(-values, kind="stable")
    sums = np.cumsum(values[order]) / max(float(values.sum()), TINY)
    found = np.empty_like(sums)
    found[order] = sums
    return found


def _connected(
    nodes: Nodes,
    kept: Bool[np.ndarray, " n"],
    targets: Int[np.ndarray, " t"],
    columns: Int[np.ndarray, " s"],
    alive: Bool[np.ndarray, "t s"],
) -> Bool[np.ndarray, " n"]:
    """The kept nodes without latents and errors that lead nowhere, or come from nowhere."""
    kept, ends = kept.copy(), nodes.of(TOKEN) | nodes.of(LOGIT)
    latents = nodes.of(LATENT)
    while True:
        live = alive & kept[targets][:, None] & kept[columns][None]
        leads, comes = np.zeros(len(nodes), dtype=bool), np.zeros(len(nodes), dtype=bool)
        leads[columns[live.any(0)]] = True
        comes[targets[live.any(1)]] = True
        after = kept & (ends | leads) & (~latents | comes)
        if (after == kept).all():
            return after
        kept = after


def folded(found: Adjacency, kept: Bool[np.ndarray, " n"]) -> Adjacency:
    """The graph with what dropped latents write added to the errors of their place.

    The fair way to score a part of a graph (EleutherAI's attribute): no effect is lost, and all
    of it that is not explained counts as error.
    """
    nodes = found.nodes
    gone = np.flatnonzero(~kept & nodes.of(LATENT))
    stay = np.ones(len(nodes), dtype=bool)
    stay[gone] = False
    effects = fold(nodes, found.effects, gone)[stay[nodes.targets]]
    rows = stay[nodes.targets]
    columns = stay[: nodes.n_sources]
    return replace(
        found,
        nodes=nodes[stay],
        effects=effects[:, columns],
        pre=found.pre[rows],
        constant=found.constant[rows],
    )


def fold(
    nodes: Nodes, effects: Float[np.ndarray, "t s"], gone: Int[np.ndarray, " g"]
) -> Float[np.ndarray, "t s"]:
    """Effects with the columns of some latents added to those of their errors."""
    errors = np.flatnonzero(nodes.of(ERROR))
    places = {
        (int(layer), int(at)): int(number)
        for number, layer, at in zip(
            errors, nodes.layer[errors], nodes.position[errors], strict=True
        )
    }
    effects = effects.copy()
    for number in gone.tolist():
        place = places[int(nodes.layer[number]), int(nodes.position[number])]
        effects[:, place] += effects[:, number]
    return effects
