"""The strongest paths through a circuit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphs.order import ENDS, node_key

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph
    from graphs.parts import ScoredEdge


@dataclass(frozen=True, slots=True)
class CircuitPath:
    """Edges from input to logits, each starting where the one before ends.

    ``strength`` is the smallest ``|score|`` on the way: a path carries no more than its weakest
    edge, and the number is one that was measured.
    """

    edges: tuple[str, ...]
    nodes: tuple[str, ...]
    strength: float

    def __len__(self) -> int:
        return len(self.edges)

    def __str__(self) -> str:
        return " -> ".join(self.nodes)


@dataclass(frozen=True, slots=True)
class _Trail:
    """A path so far: its edges, and the strengths of them from weakest to strongest."""

    edges: tuple[int, ...] = ()
    strengths: tuple[float, ...] = ()

    def then(self, index: int, strength: float) -> _Trail:
        return _Trail((*self.edges, index), tuple(sorted((*self.strengths, strength))))

    def rank(self) -> tuple[tuple[float, ...], tuple[int, ...]]:
        # A missing edge counts as infinitely strong, so of two equal beginnings the shorter wins.
        return (*(-s for s in self.strengths), float("-inf")), self.edges


def strongest_paths(graph: CircuitGraph, n: int = 10) -> tuple[CircuitPath, ...]:
    """The ``n`` strongest paths from input to logits, strongest first.

    Paths are compared by their weakest edge, then by the next weakest, and so on; of paths that
    still tie, the one with edges earlier in the order of computation comes first. Adding one edge
    to two paths does not change which is stronger, so keeping the best ``n`` at every node is
    exact.
    """
    items = graph.scored_edges
    leaving: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        leaving.setdefault(item.edge.sender.name, []).append(index)
    anatomy = graph.info.anatomy
    sites = sorted((node.site for node in graph.scored_nodes), key=lambda s: node_key(s, anatomy))
    best: dict[str, list[_Trail]] = {s.name: [_Trail()] for s in sites if s.kind == "input"}
    arrived: list[_Trail] = []
    for site in sites:
        trails = sorted(best.pop(site.name, []), key=_Trail.rank)[: max(n, 0)]
        if site.kind in ENDS:
            arrived += trails
        for index in leaving.get(site.name, []):
            strength, receiver = abs(items[index].score), items[index].edge.receiver.name
            best.setdefault(receiver, []).extend(t.then(index, strength) for t in trails)
    arrived.sort(key=_Trail.rank)
    return tuple(_finished(trail, items) for trail in arrived[: max(n, 0)] if trail.edges)


def _finished(trail: _Trail, items: tuple[ScoredEdge, ...]) -> CircuitPath:
    edges = [items[index].edge for index in trail.edges]
    nodes = (edges[0].sender.name, *(edge.receiver.name for edge in edges))
    return CircuitPath(tuple(edge.name for edge in edges), nodes, trail.strengths[0])
