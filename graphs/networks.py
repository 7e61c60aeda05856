"""Circuits as plain networkx graphs, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from graphs.files import read_json
from graphs.schema import FORMAT, SCHEMA_VERSION, from_document, info_document
from tasks.errors import FormatError

if TYPE_CHECKING:
    import networkx as nx

    from graphs.circuit import CircuitGraph

HEADER = "circuit"
NODE_FIELDS = ("kind", "layer", "unit", "score", "standard_error")
EDGE_FIELDS = ("score", "standard_error")


def to_networkx(graph: CircuitGraph) -> nx.MultiDiGraph:
    """See :meth:`graphs.CircuitGraph.to_networkx`."""
    import networkx as nx

    info = graph.info
    plain = nx.MultiDiGraph(**_told(graph), **{HEADER: header_text(graph)})
    for node in graph.scored_nodes:
        plain.add_node(node.name, **node.attributes(info.anatomy))
    for item in graph.scored_edges:
        ends = item.edge.sender.name, item.edge.receiver.name
        weight = abs(item.score)
        plain.add_edge(*ends, key=item.edge.port or "", weight=weight, **item.attributes())
    return plain


def _told(graph: CircuitGraph) -> dict[str, Any]:
    """Attributes of the graph that other programs can show; nothing that is None."""
    info = graph.info
    names = ("level", "task", "model", "model_hash", "method", "metric", "direction", "prompts")
    values = {name: getattr(info, name) for name in names}
    return values | ({} if graph.faithfulness is None else {"faithfulness": graph.faithfulness})


def header_text(graph: CircuitGraph) -> str:
    """The model and how the circuit was found, as JSON: what nodes and edges do not say."""
    described = info_document(graph.info)
    header = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "graph": described}
    return json.dumps(header, sort_keys=True, allow_nan=False)


def read_header(plain: nx.MultiDiGraph, source: str) -> dict[str, Any]:
    """What :func:`header_text` wrote into a graph's attributes.

    Raises:
        FormatError: there is none, or something else.
    """
    header = plain.graph.get(HEADER)
    if not isinstance(header, str):
        raise FormatError(
            f"{source} is no circuit: its graph has no attribute '{HEADER}'; circuits writes one "
            f"that holds model, task and method"
        )
    document = read_json(header.encode("utf-8", "surrogatepass"), f"{source}: '{HEADER}'")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise FormatError(f"{source}: attribute '{HEADER}' does not hold a circuit's metadata")
    return document


def from_networkx(plain: nx.MultiDiGraph) -> CircuitGraph:
    """See :meth:`graphs.CircuitGraph.from_networkx`."""
    source = "this networkx graph"
    if not (plain.is_multigraph() and plain.is_directed()):
        raise FormatError(f"{source} is no circuit: give a MultiDiGraph, as graph.to_networkx()")
    document = read_header(plain, source)
    nodes = [{"id": name, **_some(data, NODE_FIELDS)} for name, data in plain.nodes(data=True)]
    edges = [
        {"source": u, "target": v, "key": key, **_some(data, EDGE_FIELDS)}
        for u, v, key, data in plain.edges(keys=True, data=True)
    ]
    whole = {**document, "directed": True, "multigraph": True, "nodes": nodes, "edges": edges}
    return from_document(whole, source)


def _some(data: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: data[name] for name in names if name in data}
