"""The sizes at which a page shows a circuit: its strongest edges that connect input to logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphs.choose import keep

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph

SIZES = (1, 2, 3, 5, 8, 12, 16, 20, 30, 40, 50, 65, 80, 100, 150, 200, 400, 800)


@dataclass(frozen=True, slots=True)
class Step:
    """What is left of the ``asked`` strongest edges (of a node circuit: nodes)."""

    asked: int
    graph: CircuitGraph


def steps(graph: CircuitGraph) -> tuple[Step, ...]:
    """Growing parts of a circuit, the last of which is the circuit itself.

    A part holds the strongest edges, without those that are then on no path from input to logits;
    sizes at which nothing is left, or no more than at the one before, are skipped.
    """
    every: list[Step] = []
    for size in SIZES:
        if size >= len(graph):
            break
        part = _strongest(graph, size)
        if len(part) > (len(every[-1].graph) if every else 0):
            every.append(Step(size, part))
    while every and len(every[-1].graph) >= len(graph):
        every.pop()
    return (*every, Step(len(graph), graph))


def _strongest(graph: CircuitGraph, size: int) -> CircuitGraph:
    if graph.level == "edge":
        return graph.top(size)
    return keep(graph, graph.ranked()[:size])
