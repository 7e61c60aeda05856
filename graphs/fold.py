"""Folding: the weak heads of a crowded layer as one box, so that a picture can be read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from graphs.parts import ScoredEdge
from patching.sites import Edge
from tasks.errors import counted

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph
    from graphs.parts import ScoredNode

MOST_HEADS = 6
"""Boxes of heads in a layer, the one of folded heads among them."""

Folds = Mapping[str, tuple[str, ...]]


def folded(graph: CircuitGraph, lit: AbstractSet[str]) -> tuple[CircuitGraph, Folds, str]:
    """The circuit with its weak heads folded, what each box stands for besides, and a note of it.

    In a layer of more than :data:`MOST_HEADS` heads, those whose strongest edge is weakest are one
    node, which has the name of the strongest among them. Edges that then join the same nodes by
    the same port are one, whose score is their sum. ``lit`` is never folded, and neither are
    circuits without edges or with positions.
    """
    folds = _folds(graph, lit)
    if not folds:
        return graph, {}, ""
    stands_for = {name: first for first, others in folds.items() for name in others}
    edges = _merged(graph, stands_for)
    nodes = [node for node in graph.scored_nodes if node.name not in stands_for]
    heads = counted(len(stands_for) + len(folds), "weak head")
    boxes = "one box" if len(folds) == 1 else f"{len(folds)} boxes"
    note = f"{heads} drawn as {boxes}, with the sums of their edges' scores"
    return graph.with_parts(edges, nodes), folds, note


def _folds(graph: CircuitGraph, lit: AbstractSet[str]) -> Folds:
    strength: dict[str, float] = defaultdict(float)
    shown = set(lit)
    for item in graph.scored_edges:
        for name in item.ends:
            strength[name] = max(strength[name], abs(item.score))
        if item.name in lit:
            shown |= item.ends
    layers: dict[int, list[ScoredNode]] = defaultdict(list)
    for node in graph.scored_nodes:
        if node.site.position is not None:
            return {}
        if node.site.kind == "head":
            layers[node.site.layer].append(node)
    found = {}
    for nodes in layers.values():
        # Sorting keeps the order of computation among equals.
        ranked = sorted(nodes, key=lambda node: (node.name not in shown, -strength[node.name]))
        weak = [node.name for node in ranked[MOST_HEADS - 1 :] if node.name not in shown]
        if graph.edges and len(nodes) > MOST_HEADS and len(weak) > 1:
            found[weak[0]] = tuple(weak[1:])
    return found


def _merged(graph: CircuitGraph, stands_for: Mapping[str, str]) -> list[ScoredEdge]:
    """The edges between what is drawn; sums of their scores."""
    sites = {node.name: node.site for node in graph.scored_nodes}
    total: dict[Edge, float] = defaultdict(float)
    for item in graph.scored_edges:
        sender, receiver = (
            sites[stands_for.get(site.name, site.name)]
            for site in (item.edge.sender, item.edge.receiver)
        )
        total[Edge(sender, receiver, item.edge.port)] += item.score
    return [ScoredEdge(edge, score) for edge, score in total.items()]
