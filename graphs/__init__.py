"""Circuits as graphs: choose, compare, save, load and draw them. Needs no torch."""

from graphs.build import by_threshold, from_scores, greedy, top_edges, top_nodes
from graphs.circuit import CircuitGraph
from graphs.diff import CircuitDiff
from graphs.info import CircuitInfo, Metrics, Selection
from graphs.parts import ScoredEdge, ScoredNode
from graphs.paths import CircuitPath

__all__ = [
    "CircuitDiff",
    "CircuitGraph",
    "CircuitInfo",
    "CircuitPath",
    "Metrics",
    "ScoredEdge",
    "ScoredNode",
    "Selection",
    "by_threshold",
    "from_scores",
    "greedy",
    "top_edges",
    "top_nodes",
]
