"""Circuits whose edges are tied to places: which edges they hold, what they cost, what connects.

Two kinds of edges. An edge at a place, ``m0@S2->a9.h6@S2<q>``: the port reads the sender there. A
crossing edge, ``a9.h6@IO->a9.h6@END<v>``: the head carries, to the query place, its value at the
source place under the attention it pays to it. A head writes at a place what its crossing edges to
that place carry; without any it writes what stands in outside the circuit.

The cost of a circuit is counted in plain edges. An edge at a place costs the share of the prompt's
tokens that the place has, a crossing edge the share of the head's token pairs; a plain circuit
costs one for every edge and one for every head that it feeds, which then carries all pairs. So a
circuit of all edges at all places costs what the whole model costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from patching.anatomy import Anatomy
from patching.nodes.edges import EdgeSet, edge_sets
from patching.nodes.layout import Layout, layout_of
from patching.sites import Edge, Label, crosses, head, parse_edge
from tasks.errors import SiteError


@dataclass(frozen=True, eq=False)
class PlacedEdges:
    """Some edges at some places.

    kept       for every edge of the layout, at which of the places it is held
    crossing   for every layer and head, from which source place to which query place it carries
    """

    layout: Layout
    places: tuple[Label, ...]
    kept: Bool[np.ndarray, "edges places"]
    crossing: Bool[np.ndarray, "layers heads query source"]

    @classmethod
    def none(cls, layout: Layout, places: Sequence[Label]) -> PlacedEdges:
        """No edge.

        Raises:
            SiteError: a layout of neurons.
        """
        if layout.nodes != "heads":
            raise SiteError("edges at positions are between heads and whole MLPs, not neurons")
        anatomy, count = layout.anatomy, len(places)
        shape = anatomy.n_layers, anatomy.n_heads, count, count
        kept = np.zeros((layout.n_edges, count), dtype=bool)
        return cls(layout, tuple(places), kept, np.zeros(shape, dtype=bool))

    @classmethod
    def of(
        cls, edges: Iterable[str | Edge], anatomy: Anatomy, places: Sequence[Label] = ()
    ) -> PlacedEdges:
        """Some edges, at the places that they name.

        Raises:
            SiteError: an edge that this model cannot have, or one that is tied to no position.
        """
        read = [parse_edge(edge) if isinstance(edge, str) else edge for edge in edges]
        loose = [edge for edge in read if edge.receiver.position is None]
        if loose:
            raise SiteError(
                f"'{loose[0]}' is tied to no position, and others of this circuit are; give all of "
                f"them one, or none"
            )
        named = [end.position for e in read for end in (e.sender, e.receiver)]
        edges_placed = cls.none(layout_of(anatomy), tuple(places) or tuple(dict.fromkeys(named)))
        number = {label: i for i, label in enumerate(edges_placed.places)}
        for edge in read:
            source, query = number[edge.sender.position], number[edge.receiver.position]
            if crosses(edge):
                edges_placed.crossing[edge.sender.layer, edge.sender.unit, query, source] = True
            elif source != query:
                raise SiteError(f"'{edge}' leads from one position to another, and is no head's v")
            else:
                edges_placed.kept[edges_placed.layout.number(edge), source] = True
        return edges_placed

    @classmethod
    def all(cls, layout: Layout, places: Sequence[Label]) -> PlacedEdges:
        """Every edge at every place."""
        everything = cls.none(layout, places)
        return cls(layout, everything.places, ~everything.kept, ~everything.crossing)

    @classmethod
    def plain(cls, edges: EdgeSet, places: Sequence[Label]) -> PlacedEdges:
        """A plain circuit: its edges at every place, and all that its heads carry."""
        everywhere = cls.none(edges.layout, places)
        return cls(
            edges.layout,
            everywhere.places,
            np.repeat(edges.kept[:, None], len(places), axis=1),
            np.broadcast_to(fed_heads(edges)[..., None, None], everywhere.crossing.shape).copy(),
        )

    def __len__(self) -> int:
        return int(self.kept.sum() + self.crossing.sum())

    def __iter__(self) -> Iterator[Edge]:
        for number, place in np.argwhere(self.kept):
            yield self.layout.edge(int(number)).at(self.places[place])
        for layer, unit, query, source in np.argwhere(self.crossing).tolist():
            one = head(layer, unit)
            yield Edge(one.at(self.places[source]), one.at(self.places[query]), "v")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PlacedEdges)
            and (self.layout, self.places) == (other.layout, other.places)
            and np.array_equal(self.kept, other.kept)
            and np.array_equal(self.crossing, other.crossing)
        )

    def __hash__(self) -> int:
        return hash((self.places, np.packbits(self.kept).tobytes(), self.crossing.tobytes()))

    def cost(
        self,
        sizes: Float[np.ndarray, " places"],
        pairs: Float[np.ndarray, "query source"],
    ) -> float:
        """What it costs in plain edges; see the top of this module."""
        return float(self.kept.sum(0) @ sizes + (self.crossing.sum((0, 1)) * pairs).sum())

    def connected(self) -> PlacedEdges:
        """Those on a way from the input to the logits.

        A head carries a change between two places where something reaches its query at the one or
        its value at the other, or a key anywhere: a key moves the attention that all others get.
        Groups of ports stand in order of computation, so one pass forward and one pass backward
        see all ways; what one pass drops may cut off more, so they are repeated.
        """
        kept, crossing = self.kept.copy(), self.crossing.copy()
        while True:
            before = int(kept.sum() + crossing.sum())
            reached = self._reached(kept, crossing)
            needed = self._needed(kept, crossing)
            for group in self.layout.ports:
                nodes = self.layout.nodes_of(group)
                rows = kept[group.edges].reshape(group.count, group.reads, -1)
                rows &= reached.writes[None, : group.reads]
                ports = needed.ports[group.kind, group.layer, group.port]
                rows &= ports[:, None]
                if group.kind == "head":
                    crossing[group.layer] &= needed.writes[nodes][:, :, None]
                    crossing[group.layer] &= reached.carries[group.layer]
            if int(kept.sum() + crossing.sum()) == before:
                return PlacedEdges(self.layout, self.places, kept, crossing)

    def _reached(self, kept: np.ndarray, crossing: np.ndarray) -> _Reached:
        layout = self.layout
        writes = np.zeros((layout.n_senders + 1, len(self.places)), dtype=bool)
        writes[0] = True
        carries = np.zeros_like(crossing)
        fed: dict[str, np.ndarray] = {}
        for group in layout.ports:
            rows = kept[group.edges].reshape(group.count, group.reads, -1)
            into = np.asarray((rows & writes[None, : group.reads]).any(1))
            if group.kind != "head":
                writes[layout.nodes_of(group)] |= into
                continue
            fed[str(group.port)] = into
            if group.port == "v":
                moved = fed["q"][:, :, None] | fed["v"][:, None, :]
                moved = moved | np.asarray(fed["k"].any(1))[:, None, None]
                carries[group.layer] = crossing[group.layer] & moved
                writes[layout.nodes_of(group)] |= carries[group.layer].any(2)
        return _Reached(writes, carries)

    def _needed(self, kept: np.ndarray, crossing: np.ndarray) -> _Needed:
        layout = self.layout
        writes = np.zeros((layout.n_senders + 1, len(self.places)), dtype=bool)
        writes[-1] = True
        ports: dict[tuple[str, int, str | None], np.ndarray] = {}
        for group in reversed(layout.ports):
            into = np.asarray(writes[layout.nodes_of(group)])
            if group.kind == "head":
                used = crossing[group.layer] & into[:, :, None]
                into = np.asarray(used.any(2) if group.port == "q" else used.any(1))
                if group.port == "k":
                    into = np.broadcast_to(np.asarray(into.any(1))[:, None], into.shape)
            ports[group.kind, group.layer, group.port] = into
            rows = kept[group.edges].reshape(group.count, group.reads, -1)
            writes[: group.reads] |= (rows & into[:, None]).any(0)
        return _Needed(writes, ports)


@dataclass(frozen=True)
class _Reached:
    """What the input leads to: writes of nodes by place, and what heads carry between places."""

    writes: np.ndarray
    carries: np.ndarray


@dataclass(frozen=True)
class _Needed:
    """What leads to the logits: writes of nodes by place, and ports by place."""

    writes: np.ndarray
    ports: dict[tuple[str, int, str | None], np.ndarray]


def fed_heads(edges: EdgeSet) -> Bool[np.ndarray, "layers heads"]:
    """Which heads any edge of a plain circuit leads to."""
    layout = edges.layout
    fed = np.zeros((layout.anatomy.n_layers, layout.anatomy.n_heads), dtype=bool)
    for group in layout.ports:
        if group.kind == "head":
            fed[group.layer] |= edges.rows(group).any(1)
    return fed


def plain_cost(edges: EdgeSet) -> float:
    """What a plain circuit costs in plain edges: one for each, and one for each head it feeds."""
    return float(len(edges) + fed_heads(edges).sum())


def whole_cost(layout: Layout) -> float:
    """What the whole model costs in plain edges."""
    return float(layout.n_edges + layout.anatomy.n_layers * layout.anatomy.n_heads)


def tied(edges: Iterable[str | Edge]) -> bool:
    """Whether an edge is tied to a position."""
    return any(
        "@" in edge if isinstance(edge, str) else edge.receiver.position is not None
        for edge in edges
    )


Wiring = EdgeSet | PlacedEdges
"""A circuit that can be run: plain, or tied to places."""


def wirings_of(circuits: Sequence[Iterable[str | Edge]], anatomy: Anatomy) -> list[Wiring]:
    """Circuits as they are run; the plain ones in one layout.

    Raises:
        SiteError: as for :meth:`PlacedEdges.of` and :meth:`patching.nodes.edges.EdgeSet.of`.
    """
    listed = [c if isinstance(c, EdgeSet | PlacedEdges) else [*c] for c in circuits]
    at_places = [isinstance(c, PlacedEdges) or (isinstance(c, list) and tied(c)) for c in listed]
    plain = iter(
        edge_sets([c for c, placed in zip(listed, at_places, strict=True) if not placed], anatomy)
    )
    return [
        next(plain)
        if not placed
        else each
        if isinstance(each, PlacedEdges)
        else PlacedEdges.of(each, anatomy)
        for each, placed in zip(listed, at_places, strict=True)
    ]
