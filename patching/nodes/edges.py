"""Sets of edges and their names, over the layout that numbers them.

A set of edges is a row of booleans; the ports of a group are a matrix ``[ports, reads]`` inside
it. Names are made only when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import eq
from typing import overload

import numpy as np
from jaxtyping import Bool, Int

from patching.anatomy import Anatomy
from patching.nodes.layout import Layout, Ports, fitting, layout_of
from patching.sites import NODES, Edge, Label, Site, parse_edge, parse_site
from tasks.errors import SiteError


def edges(anatomy: Anatomy) -> Iterator[Edge]:
    """All edges between heads and whole MLPs, receiver by receiver, senders in order."""
    return iter(EdgeSet.all(layout_of(anatomy)))


def edge_sets(circuits: Sequence[Iterable[str | Edge]], anatomy: Anatomy) -> list[EdgeSet]:
    """Circuits as sets in one layout, the one that has the nodes of all of them.

    Raises:
        SiteError: as for :meth:`EdgeSet.of`.
    """
    sets = [EdgeSet.of(circuit, anatomy) for circuit in circuits]
    layout = next((each.layout for each in sets if len(each)), layout_of(anatomy))
    return [each if len(each) else EdgeSet.none(layout) for each in sets]


@dataclass(frozen=True, eq=False)
class EdgeSet:
    """Some of a layout's edges: a row of booleans."""

    layout: Layout
    kept: Bool[np.ndarray, " edges"]

    @classmethod
    def all(cls, layout: Layout) -> EdgeSet:
        """Every edge."""
        return cls(layout, np.ones(layout.n_edges, dtype=bool))

    @classmethod
    def none(cls, layout: Layout) -> EdgeSet:
        """No edge."""
        return cls(layout, np.zeros(layout.n_edges, dtype=bool))

    @classmethod
    def numbered(cls, layout: Layout, numbers: Int[np.ndarray, " e"]) -> EdgeSet:
        """The edges of some numbers."""
        kept = np.zeros(layout.n_edges, dtype=bool)
        kept[numbers] = True
        return cls(layout, kept)

    @classmethod
    def of(cls, edges: Iterable[str | Edge], anatomy: Anatomy) -> EdgeSet:
        """Some edges, in the layout that has their nodes.

        Raises:
            SiteError: an edge that this model cannot have, or that is tied to a position; or whole
                MLPs beside neurons.
        """
        if isinstance(edges, EdgeSet):
            return edges
        read = [parse_edge(edge) if isinstance(edge, str) else edge for edge in edges]
        if tied := [edge for edge in read if edge.receiver.position is not None]:
            raise SiteError(
                f"'{tied[0]}' is tied to a position; only edges at all positions can be run"
            )
        layout = fitting(anatomy, chain.from_iterable((e.sender, e.receiver) for e in read))
        return cls.numbered(layout, np.array([layout.number(e) for e in read], dtype=np.int64))

    @classmethod
    def among(cls, sites: Iterable[Site], anatomy: Anatomy) -> EdgeSet:
        """All edges among some nodes, with the logits among the receivers."""
        kept = list(sites)
        layout = fitting(anatomy, kept)
        sending = np.zeros(layout.n_senders + 1, dtype=bool)
        sending[-1] = True
        sending[[layout.sender_number(site) for site in kept if site.kind != "logits"]] = True
        rows = [
            np.outer(sending[layout.nodes_of(group)], sending[: group.reads]).ravel()
            for group in layout.ports
        ]
        return cls(layout, np.concatenate(rows))

    @property
    def numbers(self) -> Int[np.ndarray, " e"]:
        """The numbers of the edges, rising."""
        return np.flatnonzero(self.kept)

    def __len__(self) -> int:
        return int(self.kept.sum())

    def __iter__(self) -> Iterator[Edge]:
        senders, ports = self.layout.ends(self.numbers)
        sending, reading = self.layout.sending, self.layout.reading
        return (Edge(sending[u], *reading[r]) for u, r in zip(senders, ports, strict=True))

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, EdgeSet) and self.layout == other.layout
        return same and np.array_equal(self.kept, other.kept)  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(np.packbits(self.kept).tobytes())

    def __or__(self, other: EdgeSet) -> EdgeSet:
        return EdgeSet(self.layout, self.kept | other.kept)

    def __sub__(self, other: EdgeSet) -> EdgeSet:
        return EdgeSet(self.layout, self.kept & ~other.kept)

    def rows(self, group: Ports) -> Bool[np.ndarray, "ports reads"]:
        """Which senders each port of a group reads."""
        return self.kept[group.edges].reshape(group.count, group.reads)

    def connected(self) -> EdgeSet:
        """Those on a path from the input to the logits.

        Groups of ports stand in order of computation. So one pass forward knows what the input
        leads to, one pass backward what leads to the logits.
        """
        layout = self.layout
        reached = np.zeros(layout.n_senders + 1, dtype=bool)
        needed = reached.copy()
        reached[0] = needed[-1] = True
        kept = self.kept.copy()
        for group in layout.ports:
            rows = kept[group.edges].reshape(group.count, group.reads)
            rows &= reached[: group.reads]
            reached[layout.nodes_of(group)] |= rows.any(1)
        for group in reversed(layout.ports):
            rows = kept[group.edges].reshape(group.count, group.reads)
            rows &= needed[layout.nodes_of(group), None]
            needed[: group.reads] |= rows.any(0)
        return EdgeSet(layout, kept)


@dataclass(frozen=True, eq=False)
class EdgeNames(Sequence[str]):
    """The names of all edges of a layout, each at every label, made when they are asked for.

    Equal to any sequence of the same names.
    """

    layout: Layout
    labels: tuple[Label, ...] = (None,)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, EdgeNames):
            return (self.layout, self.labels) == (other.layout, other.labels)
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    def __hash__(self) -> int:
        return hash((self.layout, self.labels))

    def __len__(self) -> int:
        return self.layout.n_edges * len(self.labels)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(len(self))[index])
        number, label = divmod(range(len(self))[index], len(self.labels))
        return self._at(self.layout.edge(number), self.labels[label]).name

    @staticmethod
    def _at(edge: Edge, label: Label) -> Edge:
        return edge if label is None else edge.at(label)

    def __iter__(self) -> Iterator[str]:
        if self.labels != (None,):
            return (self[i] for i in range(len(self)))
        sending = [site.name for site in self.layout.sending]
        return (
            f"{sender}->{receiver.name}" + (f"<{port}>" if port else "")
            for (receiver, port), reads in zip(self.layout.reading, self.layout.reads, strict=True)
            for sender in sending[:reads]
        )

    def __contains__(self, name: object) -> bool:
        try:
            self.number(name)  # type: ignore[arg-type]
        except SiteError:
            return False
        return True

    def leaving(self, sender: str) -> Int[np.ndarray, " e"]:
        """Where the names stand of the edges that leave a sender."""
        number = self.layout.sender_number(parse_site(sender))
        ports = self.layout.reads > number
        first = (self.layout.starts[ports] + number) * len(self.labels)
        return (first[:, None] + np.arange(len(self.labels))).ravel()

    def number(self, name: str) -> int:
        """Where a name stands.

        Raises:
            SiteError: it is none of them.
        """
        edge = parse_edge(name)
        label = edge.receiver.position
        if label not in self.labels or edge.sender.position != label:
            raise SiteError(f"'{name}' is at another position")
        return self.layout.number(edge.at(None)) * len(self.labels) + self.labels.index(label)


def recognised(names: Sequence[str], anatomy: Anatomy) -> Sequence[str]:
    """Names of all edges of a model as such; any others as they are."""
    for nodes in NODES:
        if nodes == "neurons" and anatomy.n_experts:
            continue
        every = EdgeNames(layout_of(anatomy, nodes))
        if every == names:
            return every
    return tuple(names)
