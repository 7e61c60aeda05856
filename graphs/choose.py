"""Smaller and larger circuits from circuits: strongest part, set algebra, pruning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from math import isnan
from numbers import Real
from typing import TYPE_CHECKING, Any

from graphs.order import ENDS, STARTS
from patching.placed import PlacedEdges
from patching.sites import Edge, crosses, nearest
from tasks.errors import FormatError, SiteError, all_faults, number_faults

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph


def top(graph: CircuitGraph, n: int, absolute: bool = True) -> CircuitGraph:
    """The ``n`` strongest edges, without what then no longer connects input to logits.

    Raises:
        FormatError: ``n`` is negative, or no whole number.
    """
    if faults := number_faults(("the number to keep", n, 0)):
        raise FormatError(faults[0])
    names = graph.ranked(absolute)[:n]
    found = keep(graph, names, rule="top", requested=n, threshold=None, absolute=absolute)
    return prune(found)


def strongest(graph: CircuitGraph, size: int) -> CircuitGraph:
    """The ``size`` strongest edges whether they are connected or not; the circuit if it is smaller.

    Of a node circuit the strongest nodes, with the ends of the model.
    """
    if max(len(graph), len(graph.edges)) <= size:
        return graph
    names = set(graph.ranked()[:size])
    edges = [item for item in graph.scored_edges if item.name in names]
    touched = set().union(*(item.ends for item in edges))
    nodes = [
        node
        for node in graph.scored_nodes
        if node.name in names or node.name in touched or node.site.kind in ("input", *ENDS)
    ]
    return graph.with_parts(edges, nodes, kept=size)


def threshold(graph: CircuitGraph, least: float, absolute: bool = True) -> CircuitGraph:
    """Edges scoring at least ``least``, without what then no longer connects input to logits.

    Raises:
        FormatError: ``least`` is not a number.
    """
    if not isinstance(least, Real) or isnan(least):
        raise FormatError(f"the threshold is {least!r}; give a number in units of the metric")
    strength: Callable[[float], float] = abs if absolute else float
    names = [name for name in graph if strength(graph[name]) >= least]
    changes = {"rule": "threshold", "requested": None, "threshold": least, "absolute": absolute}
    return prune(keep(graph, names, **changes))


def prune(graph: CircuitGraph) -> CircuitGraph:
    """Without the nodes and edges that are on no path from input to logits.

    A circuit of level ``node`` has no edges to follow and is returned as it is.
    """
    if graph.level == "node":
        return graph
    if any(crosses(item.edge) for item in graph.scored_edges):
        return _prune_placed(graph)
    starts = {node.name for node in graph.scored_nodes if node.site.kind in STARTS}
    ends = {node.name for node in graph.scored_nodes if node.site.kind in ENDS}
    connected = connected_nodes((item.edge for item in graph.scored_edges), starts, ends)
    edges = [item for item in graph.scored_edges if item.ends <= connected]
    touched = set().union(*(item.ends for item in edges))
    nodes = [node for node in graph.scored_nodes if node.name in touched]
    if (len(edges), len(nodes)) == (len(graph.edges), len(graph.nodes)):
        return graph
    return graph.with_parts(edges, nodes, kept=len(edges))


def _prune_placed(graph: CircuitGraph) -> CircuitGraph:
    """The same of edges at places, where a head needs a crossing edge to carry anything."""
    every = PlacedEdges.of((item.edge for item in graph.scored_edges), graph.info.anatomy)
    left = {edge.name for edge in every.connected()}
    edges = [item for item in graph.scored_edges if item.name in left]
    if len(edges) == len(graph.edges):
        return graph
    touched = set().union(*(item.ends for item in edges))
    nodes = [node for node in graph.scored_nodes if node.name in touched]
    return graph.with_parts(edges, nodes, kept=len(edges))


def connected_nodes(edges: Iterable[Edge], starts: Iterable[str], ends: Iterable[str]) -> set[str]:
    """Names of the nodes that are on a path of ``edges`` from a start to an end."""
    after: dict[str, list[str]] = defaultdict(list)
    before: dict[str, list[str]] = defaultdict(list)
    for edge in edges:
        sender, receiver = edge.sender.name, edge.receiver.name
        after[sender].append(receiver)
        before[receiver].append(sender)
    return _reached(after, starts) & _reached(before, ends)


def _reached(steps: Mapping[str, list[str]], starts: Iterable[str]) -> set[str]:
    found = set(starts)
    waiting = list(found)
    while waiting:
        fresh = set(steps.get(waiting.pop(), ())) - found
        found |= fresh
        waiting += fresh
    return found


def union(one: CircuitGraph, other: CircuitGraph) -> CircuitGraph:
    """The edges and nodes of both; where both have a score, the first circuit's counts."""
    check_comparable(one, other)
    edges = {item.name: item for item in (*other.scored_edges, *one.scored_edges)}
    nodes = {node.name: node for node in other.scored_nodes}
    for node in one.scored_nodes:
        if node.score is not None or node.name not in nodes:
            nodes[node.name] = node
    joined = type(one)(one.info.merged(other.info), edges.values(), nodes.values())
    return _told(joined, "union")


def minus(one: CircuitGraph, other: CircuitGraph) -> CircuitGraph:
    """The edges (of a node circuit: scored nodes) of the first that the other does not have."""
    check_comparable(one, other)
    theirs = set(other)
    names = [name for name in one if name not in theirs]
    return keep(one, names, rule="difference", requested=None, threshold=None)


def subgraph(graph: CircuitGraph, names: Iterable[str]) -> CircuitGraph:
    """The given nodes and all edges of the circuit between them.

    Raises:
        SiteError: listing the nodes that are not in the circuit.
    """
    wanted, known = set(names), list(graph.nodes)
    if missing := sorted(wanted - set(known)):
        faults = [f"'{name}' is not in this circuit{nearest(name, known)}" for name in missing]
        raise SiteError(all_faults("cannot take this subgraph:", faults))
    edges = [item for item in graph.scored_edges if item.ends <= wanted]
    nodes = [node for node in graph.scored_nodes if node.name in wanted]
    return _told(graph.with_parts(edges, nodes), "subgraph")


def keep(graph: CircuitGraph, names: Iterable[str], **selection: Any) -> CircuitGraph:
    """The named edges and their ends; of a node circuit, the named and the unscored nodes."""
    wanted = set(names)
    edges = [item for item in graph.scored_edges if item.name in wanted]
    if graph.level == "node":
        nodes = [n for n in graph.scored_nodes if n.score is None or n.name in wanted]
    else:
        touched = set().union(*(item.ends for item in edges))
        nodes = [node for node in graph.scored_nodes if node.name in touched]
    return graph.with_parts(edges, nodes, chosen=len(wanted), kept=len(wanted), **selection)


def check_comparable(one: CircuitGraph, other: CircuitGraph) -> None:
    """Refuse two circuits that are not over the same set of possible edges or nodes.

    Raises:
        FormatError: models of different shape, or circuits of different level, or no circuits.
    """
    for given in (one, other):
        if not hasattr(given, "scored_edges"):
            raise FormatError(f"{given!r} is no circuit; CircuitGraph.load reads one from a file")
    faults = []
    if odd := one.info.differences(other.info.shape):
        faults.append(f"models of different shape: {', '.join(odd)}")
    if one.level != other.level:
        faults.append(f"levels {one.level} and {other.level}")
    if faults:
        raise FormatError(f"these circuits cannot be compared: {'; '.join(faults)}")


def _told(graph: CircuitGraph, rule: str) -> CircuitGraph:
    size = len(graph)
    changes = {"rule": rule, "requested": None, "threshold": None, "chosen": size, "kept": size}
    return graph.with_parts(graph.scored_edges, graph.scored_nodes, **changes)
