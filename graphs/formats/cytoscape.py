"""Cytoscape JSON, for Cytoscape and Cytoscape.js."""

from __future__ import annotations

from typing import Any

from graphs import style
from graphs.circuit import CircuitGraph
from graphs.files import write_json


def to_cytoscape(graph: CircuitGraph) -> str:
    """Cytoscape JSON, which ``networkx.cytoscape_graph`` reads too; element ids are names.

    Edges carry ``sign`` (1 or -1) and ``strength`` (``|score|``) for style sheets. Loses the
    metadata but for its one-line description.
    """
    anatomy = graph.info.anatomy
    nodes = [
        {"data": {"id": n.name, "name": n.name, "value": n.name, **n.attributes(anatomy)}}
        for n in graph.scored_nodes
    ]
    edges: list[dict[str, Any]] = [
        {
            "data": {
                "id": item.name,
                "key": item.name,
                "source": item.edge.sender.name,
                "target": item.edge.receiver.name,
                "sign": 1 if item.score >= 0 else -1,
                "strength": abs(item.score),
                **item.attributes(),
            }
        }
        for item in graph.scored_edges
    ]
    return write_json(
        {
            "data": [["name", "; ".join(style.caption(graph.info))]],
            "directed": True,
            "multigraph": True,
            "elements": {"nodes": nodes, "edges": edges},
        }
    )
