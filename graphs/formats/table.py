"""A table of edges (or nodes) as comma-separated values."""

from __future__ import annotations

import csv
import io

from graphs.circuit import CircuitGraph


def to_csv(graph: CircuitGraph) -> str:
    """One row per edge, or of a node circuit per scored node, in order of computation.

    Scores have all their digits; a standard error that is not known is empty. Loses the metadata,
    and nodes without an edge.
    """
    out = io.StringIO()
    if graph.level == "node":
        nodes = [node for node in graph.scored_nodes if node.score is not None]
        columns = ["node", "kind", "layer", "unit", "score", "standard_error"]
        rows = [{"node": node.name, **node.attributes(graph.info.anatomy)} for node in nodes]
    else:
        columns = ["edge", "sender", "receiver", "port", "score", "standard_error"]
        rows = [
            {
                "edge": item.name,
                "sender": item.edge.sender.name,
                "receiver": item.edge.receiver.name,
                **item.attributes(),
            }
            for item in graph.scored_edges
        ]
    table = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue()
