"""A circuit: the nodes and scored edges of a model that are kept, as an immutable value."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphs import choose
from graphs.diff import CircuitDiff
from graphs.info import CircuitInfo
from graphs.order import edge_key, node_key
from graphs.parts import ScoredEdge, ScoredNode, part_faults
from graphs.paths import CircuitPath, strongest_paths
from patching.sites import nearest
from tasks.errors import FormatError, SiteError, all_faults, counted

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

    from graphs.inside import Inside
    from graphs.page import InteractiveCircuit

Look = Callable[["CircuitGraph"], tuple["CircuitGraph", "Inside"]]


class CircuitGraph:
    """Scored edges between nodes of a model, in order of computation, and where they come from.

    A positive score says that what the edge carries in the clean run pushes the metric towards
    the clean answer. Two edges between the same nodes differ by port. Nodes at the ends of edges
    are added by themselves; ``nodes`` names further ones, or gives nodes a score. A circuit of
    level ``node`` has scored nodes and no edges. Every method returns a new circuit; those that
    take another circuit refuse one of a differently shaped model or another level (FormatError).

    >>> strong = graph.threshold(5.0)
    >>> strong.ranked()
    ['input->a0.h2<v>', 'a0.h2->m0', 'm0->a3.h0<v>', ...]
    >>> strong.draw("strong.svg")
    >>> strong.save("strong.graphml")
    >>> circuits.CircuitGraph.load("strong.graphml") == strong
    True

    Raises:
        FormatError: listing every name this model does not have, every duplicate, and every score
            that is not a finite number.
    """

    info: CircuitInfo
    _edges: Mapping[str, ScoredEdge]
    _nodes: Mapping[str, ScoredNode]
    _look: Look | None = None

    def __init__(
        self,
        info: CircuitInfo,
        edges: Iterable[ScoredEdge] = (),
        nodes: Iterable[ScoredNode] = (),
    ) -> None:
        edges, nodes, anatomy = tuple(edges), tuple(nodes), info.anatomy
        faults = part_faults(anatomy, edges, nodes)
        if info.level == "node" and edges:
            faults.append(f"a circuit of level node has no edges, given {len(edges)}")
        if faults:
            raise FormatError(all_faults("this is not a circuit:", faults))
        found = {node.name: node for node in nodes}
        for item in edges:
            for site in (item.edge.sender, item.edge.receiver):
                found.setdefault(site.name, ScoredNode(site))
        info.view.check(list(found))
        ordered = sorted(found.values(), key=lambda node: node_key(node.site, anatomy))
        listed = sorted(edges, key=lambda item: edge_key(item.edge, anatomy))
        self.__dict__["info"] = info
        self.__dict__["_nodes"] = {node.name: node for node in ordered}
        self.__dict__["_edges"] = {item.name: item for item in listed}

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a circuit does not change; its methods return new ones (set {name})")

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes in order of computation."""
        return tuple(self._nodes)

    @property
    def edges(self) -> tuple[str, ...]:
        """Names of all edges, receiver by receiver in order of computation."""
        return tuple(self._edges)

    @property
    def scored_nodes(self) -> tuple[ScoredNode, ...]:
        """All nodes with their scores, in the order of :attr:`nodes`."""
        return tuple(self._nodes.values())

    @property
    def scored_edges(self) -> tuple[ScoredEdge, ...]:
        """All edges with their scores, in the order of :attr:`edges`."""
        return tuple(self._edges.values())

    @property
    def level(self) -> str:
        """What this circuit chooses among: ``edge`` or ``node``."""
        return self.info.level

    @property
    def faithfulness(self) -> float | None:
        """Share of the metric that the circuit recovers alone; None where not measured."""
        return self.info.metrics.faithfulness

    def __iter__(self) -> Iterator[str]:
        """Names of what was chosen: edges, or of a node circuit the nodes with a score."""
        if self.level == "edge":
            return iter(self._edges)
        return (node.name for node in self._nodes.values() if node.score is not None)

    def __len__(self) -> int:
        """How many edges (of a node circuit: nodes with a score) there are."""
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        """Whether a node or an edge of that name is in the circuit."""
        return name in self._nodes or name in self._edges

    def __getitem__(self, name: str) -> float:
        """The score of an edge, or of a node that has one.

        Raises:
            SiteError: no such edge or node here, or a node without a score.
        """
        found = self._edges.get(name) or self._nodes.get(name)
        if found is None:
            known = [*self._nodes, *self._edges]
            raise SiteError(f"'{name}' is not in this circuit{nearest(name, known)}")
        if found.score is None:
            raise SiteError(f"node '{name}' has no score of its own; its edges do")
        return found.score

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CircuitGraph):
            return NotImplemented
        same = self.scored_edges == other.scored_edges and self.scored_nodes == other.scored_nodes
        return same and self.info == other.info

    def __hash__(self) -> int:
        return hash((self.scored_edges, self.scored_nodes))

    def __repr__(self) -> str:
        what = " ".join(filter(None, (self.info.task, self.info.method, self.info.direction)))
        told = f", faithfulness {self.faithfulness:.2f}" if self.faithfulness is not None else ""
        nodes, edges = counted(len(self._nodes), "node"), counted(len(self._edges), "edge")
        return f"CircuitGraph({what}: {nodes}, {edges}{told})"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the circuit's file, in hexadecimal: equal circuits have equal digests."""
        from graphs.schema import to_json

        return hashlib.sha256(to_json(self).encode()).hexdigest()

    def to_networkx(self) -> nx.MultiDiGraph:
        """A copy as plain networkx: edge keys are ports (``""`` where there is none).

        Edges carry ``score``, ``weight`` (its absolute value, for algorithms) and ``port``, nodes
        ``kind``, ``layer`` (-1 for the input, ``n_layers`` for the logits) and ``unit`` (the head
        or neuron, else -1), both ``standard_error`` where known. The graph's own attributes are
        ``task``, ``model``, ``method``, ``direction``, ``metric``, ``prompts`` and, where
        measured, ``faithfulness``; ``circuit`` holds all that :meth:`from_networkx` needs.

        >>> graph.to_networkx()["a0.h2"]["m0"][""]["weight"] > 0
        True
        """
        from graphs.networks import to_networkx

        return to_networkx(self)

    @classmethod
    def from_networkx(cls, plain: nx.MultiDiGraph) -> CircuitGraph:
        """The circuit of a graph that :meth:`to_networkx` made, also after edges were removed.

        Scores count, weights do not. Measured metrics stay those of the circuit it came from.

        >>> circuits.CircuitGraph.from_networkx(graph.to_networkx()) == graph
        True

        Raises:
            FormatError: the graph does not say which model it is of, or listing all faults.
        """
        from graphs.networks import from_networkx

        return from_networkx(plain)

    def to_frame(self) -> pd.DataFrame:
        """A data frame of the edges (of a node circuit: nodes), strongest first."""
        from graphs.frame import circuit_frame

        return circuit_frame(self)

    def ranked(self, absolute: bool = True) -> list[str]:
        """Names from strongest to weakest; ties keep the order of computation."""
        strength = abs if absolute else float
        return sorted(self, key=lambda name: -strength(self[name]))

    def top(self, n: int, absolute: bool = True) -> CircuitGraph:
        """The ``n`` strongest edges, without what then no longer connects input to logits.

        Raises:
            FormatError: ``n`` is negative, or no whole number.
        """
        return choose.top(self, n, absolute)

    def threshold(self, least: float, absolute: bool = True) -> CircuitGraph:
        """Edges scoring at least ``least``, without what no longer connects input to logits.

        Raises:
            FormatError: ``least`` is not a number.
        """
        return choose.threshold(self, least, absolute)

    def prune(self) -> CircuitGraph:
        """Without the nodes and edges that are on no path from input to logits.

        A circuit of level ``node`` has no edges to follow and is returned as it is.
        """
        return choose.prune(self)

    def union(self, other: CircuitGraph) -> CircuitGraph:
        """The edges and nodes of both; where both have a score, this circuit's own counts."""
        return choose.union(self, other)

    def minus(self, other: CircuitGraph) -> CircuitGraph:
        """The edges (of a node circuit: scored nodes) that ``other`` does not have."""
        return choose.minus(self, other)

    def diff(self, other: CircuitGraph) -> CircuitDiff:
        """What is only here, only there, and in both; see :class:`graphs.diff.CircuitDiff`."""
        return CircuitDiff(self, other)

    def subgraph(self, nodes: Iterable[str]) -> CircuitGraph:
        """The given nodes and all edges of this circuit between them.

        Raises:
            SiteError: listing the nodes that are not in this circuit.
        """
        return choose.subgraph(self, nodes)

    def paths(self, n: int = 10) -> tuple[CircuitPath, ...]:
        """The ``n`` strongest paths from input to logits; see :mod:`graphs.paths`."""
        return strongest_paths(self, n)

    def with_parts(
        self, edges: Iterable[ScoredEdge], nodes: Iterable[ScoredNode], **selection: Any
    ) -> CircuitGraph:
        """A circuit of the same origin with other parts; ``selection`` says how they were chosen.

        The metric of the circuit itself is dropped, since it was another circuit's.
        """
        edges, nodes = tuple(edges), tuple(nodes)
        left = {node.name for node in nodes}.union(*(e.ends for e in edges))
        info = replace(self.info.selected(**selection), view=self.info.view.among(left))
        return CircuitGraph(info, edges, nodes).seen_by(self._look)

    def with_info(self, **changes: Any) -> CircuitGraph:
        """The same edges with other metadata, such as ``model="gpt2"`` or ``seed=0``."""
        info = replace(self.info, **changes)
        return CircuitGraph(info, self.scored_edges, self.scored_nodes).seen_by(self._look)

    def seen_by(self, look: Look | None) -> CircuitGraph:
        """The same; ``look`` finds what its page shows, and is neither saved nor compared."""
        found = copy(self)
        found.__dict__["_look"] = look
        return found

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_look": None}

    def save(self, path: str | Path, format: str | None = None) -> None:
        """Write the file that the suffix of ``path`` (or ``format``) asks for; replaces ``path``.

        Raises:
            FormatError: no such format.
        """
        from graphs.formats import save

        save(self, path, format)

    @classmethod
    def load(cls, path: str | Path, format: str | None = None) -> CircuitGraph:
        """Read a circuit from our JSON, MIB/EAP-IG JSON or GraphML, or from a run folder.

        Raises:
            FormatError: listing everything that is wrong with the file.
        """
        from graphs.formats import load

        return load(path, format)

    def draw(self, path: str | Path, **options: Any) -> None:
        """Write a ``.svg``, ``.png``, ``.pdf`` or ``.dot``.

        ``width`` (inches), ``caption``, ``font``, ``highlight`` (names) and ``dpi`` are those of
        :func:`graphs.draw.draw`, and so are the errors.

        >>> graph.draw("ioi.pdf", width=6.5, caption="", highlight=["a3.h0"])
        """
        from graphs.draw import draw

        draw(self, path, **options)

    def to_svg(self) -> str:
        """The picture as SVG text, always the same."""
        from graphs.draw import to_svg

        return to_svg(self)

    def interactive(self, height: int = 640, **options: Any) -> InteractiveCircuit:
        """The page in a notebook; see :func:`graphs.page.interactive`."""
        from graphs.page import interactive

        return interactive(self, self._look, height, **options)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"image/svg+xml": self.to_svg(), "text/plain": repr(self)}
