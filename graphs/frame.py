"""Circuits and what changed between them as pandas data frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph
    from graphs.diff import CircuitDiff


def circuit_frame(graph: CircuitGraph) -> pd.DataFrame:
    """One row per edge (of a node circuit: per scored node), strongest first."""
    names = graph.ranked()
    if graph.level == "node":
        nodes = {node.name: node for node in graph.scored_nodes}
        rows = [nodes[name].attributes(graph.info.anatomy) for name in names]
        columns = ["kind", "layer", "unit", "score"]
    else:
        edges = {item.name: item for item in graph.scored_edges}
        rows = [
            {"sender": e.edge.sender.name, "receiver": e.edge.receiver.name, **e.attributes()}
            for e in map(edges.__getitem__, names)
        ]
        columns = ["sender", "receiver", "port", "score"]
    index = pd.Index(names, name=graph.level, dtype="str")
    return pd.DataFrame(rows, index=index, columns=None if rows else columns)


def diff_frame(diff: CircuitDiff) -> pd.DataFrame:
    """One row per edge or node of either circuit: where it is, and its score in both."""
    left, right = set(diff.left), set(diff.right)
    names = [*diff.left, *diff.added]
    columns = {
        "status": [
            "both" if n in left & right else "left" if n in left else "right" for n in names
        ],
        "left": [diff.left[n] if n in left else np.nan for n in names],
        "right": [diff.right[n] if n in right else np.nan for n in names],
    }
    return pd.DataFrame(columns, index=pd.Index(names, name=diff.left.level, dtype="str"))
