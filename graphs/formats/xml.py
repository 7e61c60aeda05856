"""GraphML and GEXF, for yEd, Gephi, igraph and networkx."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from graphs import style
from graphs.circuit import CircuitGraph
from graphs.networks import HEADER, header_text, read_header
from graphs.schema import from_document
from tasks.errors import FormatError

if TYPE_CHECKING:
    import networkx as nx

_KNOWN = ("score", "standard_error")
LEAST_WEIGHT = 1.2e-38
"""What stands for a weight of 0: still above 0 in the single precision of other programs."""

NO_PORT = "in"
"""The kind of edges into an MLP or the logits, which have one input."""
_EDGE = re.compile(r'<edge (?=[^>]*?\bid="[^"]*?(?:&lt;(?P<port>[qkv])&gt;)?")')


def to_graphml(graph: CircuitGraph) -> str:
    """GraphML that ``networkx.read_graphml`` and yEd open; edge ids are edge names.

    The metadata is JSON text in the graph's attribute ``circuit``. Loses nothing.
    """
    import networkx as nx

    plain = _with_unique_keys(graph)
    plain.graph[HEADER] = header_text(graph)
    return "\n".join(nx.generate_graphml(plain)) + "\n"


def from_graphml(data: bytes, source: str = "this file") -> CircuitGraph:
    """Read what :func:`to_graphml` wrote, also after another tool added to it.

    Raises:
        FormatError: not GraphML, not one of ours, or listing everything that is wrong with it.
    """
    import networkx as nx

    if b"<!ENTITY" in data or b"<!DOCTYPE" in data:
        raise FormatError(f"{source} declares a document type, which circuits do not need")
    try:
        plain = nx.parse_graphml(data.decode("utf-8"), force_multigraph=True)
    except Exception as error:
        # networkx checks little, so a broken file fails in whatever line meets it first.
        raise FormatError(f"{source} is not GraphML: {error}") from None
    document = read_header(plain, source)
    nodes = [{"id": name, **_known(data)} for name, data in plain.nodes(data=True)]
    edges = [
        {"source": u, "target": v, "key": data.get("port", ""), **_known(data)}
        for u, v, data in plain.edges(data=True)
    ]
    whole = {**document, "directed": True, "multigraph": True, "nodes": nodes, "edges": edges}
    return from_document(whole, source)


def to_gexf(graph: CircuitGraph) -> str:
    """GEXF 1.3 that Gephi and ``networkx.read_gexf`` open, with colours and widths.

    ``weight`` is ``|score|``, but never 0, which Gephi takes for an edge that is not there. Edges
    carry their port as ``kind``: Gephi merges parallel edges of one kind. Loses the metadata but
    for its one-line description.
    """
    import networkx as nx

    plain = _with_unique_keys(graph)
    largest = max((abs(item.score) for item in graph.scored_edges), default=0.0)
    for _, _, name, data in plain.edges(keys=True, data=True):
        share = style.relative(data["score"], largest)
        tone = style.POSITIVE if data["score"] >= 0 else style.NEGATIVE
        red, green, blue = (int(tone[i : i + 2], 16) for i in (1, 3, 5))
        colour = {"r": red, "g": green, "b": blue, "a": 1.0}
        data |= {"id": name, "weight": max(abs(data["score"]), LEAST_WEIGHT), "label": name}
        data["viz"] = {"color": colour, "thickness": style.pen_width(share)}
    text = "\n".join(nx.generate_gexf(plain, version="1.3")) + "\n"
    caption = style.markup("; ".join(style.caption(graph.info)))
    # networkx dates the file; equal circuits shall give equal files.
    dated = re.compile(r'<meta lastmodifieddate="[^"]*">\s*<creator>[^<]*</creator>')
    text = _EDGE.sub(_with_kind, text)
    return dated.sub(lambda _: f"<meta>\n      <description>{caption}</description>", text, count=1)


def _with_kind(edge: re.Match[str]) -> str:
    """An edge's opening tag with the port that its name, which is its id, ends in."""
    return f'{edge[0]}kind="{edge["port"] or NO_PORT}" '


def _with_unique_keys(graph: CircuitGraph) -> nx.MultiDiGraph:
    """The circuit with edge names for keys: the ids of a file's edges must differ."""
    import networkx as nx

    plain = nx.MultiDiGraph()
    plain.add_nodes_from(graph.to_networkx().nodes(data=True))
    for item in graph.scored_edges:
        ends = item.edge.sender.name, item.edge.receiver.name
        plain.add_edge(*ends, key=item.name, **item.attributes())
    return plain


def _known(data: dict[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in _KNOWN if name in data}
