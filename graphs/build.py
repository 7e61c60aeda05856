"""From scores to a circuit: which edges are kept. Every edge kept has a measured score."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from graphs.circuit import CircuitGraph
from graphs.info import CircuitInfo
from graphs.order import EdgeKey, NodeKey, edge_key, node_key, read_node
from graphs.parts import ScoredEdge, ScoredNode
from patching.nodes.edges import EdgeNames, EdgeSet
from patching.scores import Scores
from patching.sites import INPUT, LOGITS, parse_edge
from tasks.errors import FormatError, MethodError, unknown

RULES = ("top", "greedy")


def from_scores(
    scores: Scores, n: int = 100, rule: str = "top", absolute: bool = True, fill: bool = False
) -> CircuitGraph:
    """A circuit of ``n`` edges, or for scores of nodes of ``n`` nodes, by the named rule.

    Raises:
        FormatError: no such rule, or ``n`` is negative.
    """
    if rule not in RULES:
        raise FormatError(unknown("rule", rule, RULES))
    if scores.level != "edge":
        return top_nodes(scores, n, absolute)
    return greedy(scores, n, absolute) if rule == "greedy" else top_edges(scores, n, absolute, fill)


def top_edges(scores: Scores, n: int, absolute: bool = True, fill: bool = False) -> CircuitGraph:
    """The ``n`` edges with the largest ``|score|``, without what does not connect input to logits.

    So fewer than ``n`` may be kept; ``info.selection`` has both numbers. With ``fill``, edges are
    taken in order of strength until at least ``n`` are kept: more than ``n`` where the last one
    taken connects a chain at once. Ties go to the edge that is computed first.

    Raises:
        FormatError: ``n`` is negative.
        MethodError: the scores are not of edges, or name one twice.
    """
    _check(scores, "edge", n)
    if not fill:
        order = _strongest(scores, n, absolute)
        return _circuit(scores, order, rule="top", requested=n, absolute=absolute)
    order = _strongest(scores, len(scores), absolute)
    layout, numbers = scores.edges()

    def connected(take: int) -> int:
        return len(EdgeSet.numbered(layout, numbers[order[:take]]).connected())

    # Taking more edges never cuts one off, so the smallest sufficient number is found by halves.
    takes = range(min(n, len(order)), len(order))
    least = takes.start + bisect_left(takes, n, key=connected)
    return _circuit(scores, order[:least], rule="top-fill", requested=n, absolute=absolute)


def by_threshold(scores: Scores, least: float, absolute: bool = True) -> CircuitGraph:
    """Edges (of node scores: nodes) with ``|score| >= least``; edges are pruned as in ``top``.

    Raises:
        MethodError: the scores name an edge or node twice.
    """
    _check(scores, scores.level, 0)
    order = [int(i) for i in np.flatnonzero(_strengths(scores, absolute) >= least)]
    selection = {"rule": "threshold", "threshold": float(least), "absolute": absolute}
    build = _circuit if scores.level == "edge" else _node_circuit
    return build(scores, order, **selection)


def greedy(scores: Scores, n: int, absolute: bool = True) -> CircuitGraph:
    """``n`` edges grown from the logits, each time the strongest that ends at a node reached.

    A node is reached once one of its own outgoing edges is taken, so every edge taken leads to
    the logits; those that input does not lead to are dropped at the end (EAP-IG's greedy choice,
    arXiv 2403.17806).

    Raises:
        FormatError: ``n`` is negative.
        MethodError: the scores are not of edges, or name one twice.
    """
    _check(scores, "edge", n)
    strengths = _strengths(scores, absolute)
    layout, numbers = scores.edges()
    senders, ports = layout.ends(numbers)
    receivers = layout.receivers[ports]
    by_receiver = np.argsort(receivers, kind="stable")
    bounds = np.searchsorted(receivers[by_receiver], np.arange(layout.n_senders + 2))
    waiting: list[tuple[float, int, int]] = []
    reached: set[int] = set()

    def reach(node: int) -> None:
        if node not in reached:
            reached.add(node)
            for index in by_receiver[bounds[node] : bounds[node + 1]].tolist():
                heapq.heappush(waiting, (-float(strengths[index]), int(numbers[index]), index))

    reach(layout.n_senders)
    taken: list[int] = []
    while waiting and len(taken) < n:
        taken.append(heapq.heappop(waiting)[2])
        reach(int(senders[taken[-1]]))
    return _circuit(scores, taken, rule="greedy", requested=n, absolute=absolute)


def top_nodes(scores: Scores, n: int, absolute: bool = True) -> CircuitGraph:
    """The ``n`` nodes with the largest ``|score|``, and those that have none; no edges at all.

    Raises:
        FormatError: ``n`` is negative.
        MethodError: the scores are of edges, or name a node twice.
        SiteError: a scored site is not a node (a residual stream, say).
    """
    _check(scores, "node", n)
    order = _strongest(scores, n, absolute)
    return _node_circuit(scores, order, rule="top", requested=n, absolute=absolute)


def _check(scores: Scores, level: str, n: int) -> None:
    if n < 0:
        raise FormatError(f"a circuit needs a number of edges or nodes of at least 0, given {n}")
    if (level == "edge") != (scores.level == "edge"):
        raise MethodError(f"this needs scores of {level}s, given scores of {scores.level}s")
    if isinstance(scores.names, EdgeNames) or len(set(scores.names)) == len(scores.names):
        return
    twice = [name for name, count in Counter(scores.names).items() if count > 1]
    raise MethodError(f"{len(twice)} names have more than one score, first '{twice[0]}'")


def _strengths(scores: Scores, absolute: bool) -> Float[np.ndarray, "sites"]:
    return np.abs(scores.values) if absolute else scores.values


def _strongest(scores: Scores, n: int, absolute: bool) -> list[int]:
    """Indices of the ``n`` strongest, ties in order of computation however names are listed."""
    if n == 0 or len(scores) == 0:
        return []
    if isinstance(scores.names, EdgeNames):
        order: list[int] = scores.order(absolute)[:n].tolist()
        return order
    strengths = _strengths(scores, absolute)
    if n < len(scores):
        weakest = np.partition(strengths, len(scores) - n)[len(scores) - n]
        candidates = np.flatnonzero(strengths >= weakest)
    else:
        candidates = np.arange(len(scores))
    key = _edge_order if scores.level == "edge" else _node_order
    ranked = [(-float(strengths[i]), key(scores, int(i)), int(i)) for i in candidates]
    return [index for *_, index in sorted(ranked)[:n]]


def _edge_order(scores: Scores, index: int) -> EdgeKey:
    return edge_key(parse_edge(scores.names[index]), scores.anatomy)


def _node_order(scores: Scores, index: int) -> NodeKey:
    return node_key(read_node(scores.names[index], scores.anatomy), scores.anatomy)


def _circuit(scores: Scores, order: Sequence[int], **selection: Any) -> CircuitGraph:
    spreads = scores.standard_error
    edges = [
        ScoredEdge(
            parse_edge(scores.names[i]),
            float(scores.values[i]),
            None if spreads is None else float(spreads[i]),
        )
        for i in order
    ]
    info = CircuitInfo.from_scores(scores)
    info = info.selected(chosen=len(edges), kept=len(edges), **selection)
    return CircuitGraph(info, edges).prune()


def _node_circuit(scores: Scores, order: Sequence[int], **selection: Any) -> CircuitGraph:
    spreads, anatomy = scores.standard_error, scores.anatomy
    sites = [read_node(name, anatomy) for name in scores.names]
    chosen = [
        ScoredNode(
            sites[i], float(scores.values[i]), None if spreads is None else float(spreads[i])
        )
        for i in order
    ]
    # What a method cannot score, such as the logits, belongs to every circuit.
    scored = {site.kind for site in sites}
    ends = [ScoredNode(site) for site in (INPUT, LOGITS) if site.kind not in scored]
    info = CircuitInfo.from_scores(scores)
    info = info.selected(chosen=len(chosen), kept=len(chosen), **selection)
    return CircuitGraph(info, nodes=[*chosen, *ends])
