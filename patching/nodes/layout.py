"""The layout of a model: which nodes send, which receive, in which order, which slice is whose.

Order belongs here and nowhere else. In order of computation:

1. Senders are numbered: the input, then layer by layer the heads and the MLP (or its neurons).
2. Input ports are numbered: layer by layer the q, k and v ports of the heads, then the MLP (or its
   neurons); last the logits.
3. Whatever reads the residual stream reads all that was written before. So a port reads the first
   ``reads`` senders, and its edges are a run of numbers, one for each of them.

An edge is thus an integer. Sets of edges and their names are in :mod:`patching.nodes.edges`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from jaxtyping import Int

from patching.anatomy import Anatomy
from patching.sites import (
    INPUT,
    LOGITS,
    NODES,
    PORTS,
    Edge,
    Site,
    check_edge,
    parse_edge,
)
from tasks.errors import MethodError, SiteError, unknown


@dataclass(frozen=True, slots=True)
class Senders:
    """What one layer's heads, MLP or neurons send: senders ``start`` to ``stop``."""

    kind: str
    layer: int
    start: int
    count: int

    @property
    def stop(self) -> int:
        """The number behind the last one."""
        return self.start + self.count

    @property
    def slice(self) -> slice:
        """Their part of the axis of senders."""
        return slice(self.start, self.stop)

    def site(self, unit: int) -> Site:
        """One of them, counted from 0."""
        return _site(self.kind, self.layer, unit)


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of one kind in one layer: ports ``first`` to ``first + count``.

    Each reads the first ``reads`` senders; their edges are ``start`` to ``start + count * reads``,
    port by port.
    """

    kind: str
    layer: int
    port: str | None
    first: int
    count: int
    reads: int
    start: int

    @property
    def edges(self) -> slice:
        """Their part of the axis of edges."""
        return slice(self.start, self.start + self.count * self.reads)

    def site(self, unit: int) -> Site:
        """The receiver of one of them, counted from 0."""
        return _site(self.kind, self.layer, unit)


def _site(kind: str, layer: int, unit: int) -> Site:
    if kind == "mlp":
        return Site(kind, layer)
    return INPUT if kind == "input" else LOGITS if kind == "logits" else Site(kind, layer, unit)


@dataclass(frozen=True)
class Layout:
    """The senders, ports and edges of a model in order of computation.

    ``nodes`` is ``heads`` (heads and whole MLPs) or ``neurons`` (heads and single neurons).

    Raises:
        MethodError: ``nodes`` is another word.
        SiteError: neurons of a model whose MLPs are mixtures of experts.
    """

    anatomy: Anatomy
    nodes: str = "heads"

    def __post_init__(self) -> None:
        if self.nodes not in NODES:
            raise MethodError(unknown("kind of nodes", self.nodes, NODES))
        if self.nodes == "neurons" and self.anatomy.n_experts:
            raise SiteError("the MLPs of this model are mixtures of experts, which have no neurons")

    @cached_property
    def senders(self) -> tuple[Senders, ...]:
        """Groups of senders: the input, then per layer the heads and the MLP or its neurons."""
        groups, at = [Senders("input", -1, 0, 1)], 1
        for layer in range(self.anatomy.n_layers):
            for kind, count in (("head", self.anatomy.n_heads), self._mlp):
                groups.append(Senders(kind, layer, at, count))
                at += count
        return tuple(groups)

    @cached_property
    def ports(self) -> tuple[Ports, ...]:
        """Groups of ports: per layer q, k, v, then the MLP or its neurons; last the logits."""
        groups: list[Ports] = []
        first = start = 0

        def add(kind: str, layer: int, port: str | None, count: int, reads: int) -> None:
            nonlocal first, start
            groups.append(Ports(kind, layer, port, first, count, reads, start))
            first, start = first + count, start + count * reads

        for layer in range(self.anatomy.n_layers):
            heads = self.group("head", layer)
            for port in PORTS:
                add("head", layer, port, heads.count, heads.start)
            add(self._mlp[0], layer, None, self._mlp[1], self.before_mlp(layer))
        add("logits", self.anatomy.n_layers, None, 1, self.n_senders)
        return tuple(groups)

    @property
    def _mlp(self) -> tuple[str, int]:
        """The kind of node in an MLP's place, and how many a layer has."""
        return ("mlp", 1) if self.nodes == "heads" else ("neuron", self.anatomy.d_mlp)

    def group(self, kind: str, layer: int) -> Senders:
        """The senders of one kind in one layer; ``mlp`` also stands for its neurons."""
        if kind == "input":
            return self.senders[0]
        return self.senders[1 + 2 * layer + (kind != "head")]

    def receiver(self, kind: str, layer: int, port: str | None = None) -> Ports:
        """The ports of one kind in one layer."""
        if kind == "logits":
            return self.ports[-1]
        return self.ports[4 * layer + (3 if port is None else PORTS.index(port))]

    def before_mlp(self, layer: int) -> int:
        """How many senders have written before an MLP reads: not its layer's heads if parallel."""
        heads = self.group("head", layer)
        return heads.start if self.anatomy.parallel else heads.stop

    @cached_property
    def n_senders(self) -> int:
        """How many nodes send."""
        return self.senders[-1].stop

    @property
    def n_edges(self) -> int:
        """How many edges there are."""
        return self.ports[-1].edges.stop

    @cached_property
    def sending(self) -> tuple[Site, ...]:
        """All senders, by number."""
        return tuple(group.site(unit) for group in self.senders for unit in range(group.count))

    @cached_property
    def reading(self) -> tuple[tuple[Site, str | None], ...]:
        """The receiver and the letter of every port, by number."""
        return tuple((g.site(unit), g.port) for g in self.ports for unit in range(g.count))

    def sender(self, number: int) -> Site:
        """A sender by its number."""
        return self.sending[number]

    def sender_number(self, site: Site) -> int:
        """The number of a sender, whatever its position.

        Raises:
            SiteError: no such sender in this layout.
        """
        if site.kind == "input":
            return 0
        if site.kind not in ("head", self._mlp[0]):
            raise SiteError(f"'{site}' sends nothing where nodes are {self.nodes}")
        return self.group(site.kind, site.layer).start + max(site.unit, 0)

    @cached_property
    def starts(self) -> Int[np.ndarray, " ports"]:
        """The first edge of every port."""
        parts = [g.start + g.reads * np.arange(g.count) for g in self.ports]
        return np.concatenate(parts)

    def nodes_of(self, group: Ports) -> slice:
        """The nodes behind a group of ports, numbered as they send; the logits come last."""
        if group.kind == "logits":
            return slice(self.n_senders, self.n_senders + 1)
        return self.group(group.kind, group.layer).slice

    @cached_property
    def reads(self) -> Int[np.ndarray, " ports"]:
        """How many senders every port reads."""
        return np.concatenate([np.full(g.count, g.reads) for g in self.ports])

    def readers(self, sender: int) -> int:
        """How many ports read a sender."""
        return int((self.reads > sender).sum())

    def leaving(self, sender: int, which: int) -> int:
        """One of the edges that leave a sender, counted from 0, by its number."""
        return int(self.starts[np.flatnonzero(self.reads > sender)[which]]) + sender

    @cached_property
    def receivers(self) -> Int[np.ndarray, " ports"]:
        """The node behind every port, by the number it sends by; the logits come last."""
        return np.concatenate([np.r_[self.nodes_of(group)] for group in self.ports])

    def receiver_number(self, edge: int) -> int:
        """The node that an edge leads to, by the number it sends by; the logits come last."""
        return int(self.receivers[self.ends(np.array(edge))[1]])

    def ends(self, edges: Int[np.ndarray, "*e"]) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the senders and of the ports of some edges."""
        at = np.searchsorted(self.starts, edges, "right") - 1
        return edges - self.starts[at], at

    def edge(self, number: int) -> Edge:
        """An edge by its number."""
        sender, port = self.ends(np.array(number))
        return Edge(self.sending[sender], *self.reading[port])

    def number(self, edge: str | Edge) -> int:
        """The number of an edge, whatever its position.

        Raises:
            SiteError: no edge of this model, or none between such nodes.
        """
        edge = parse_edge(edge) if isinstance(edge, str) else edge
        check_edge(edge, self.anatomy)
        sender, receiver = self.sender_number(edge.sender), edge.receiver
        if receiver.kind != "logits":
            self.sender_number(receiver)
        group = self.receiver(receiver.kind, receiver.layer, edge.port)
        return group.start + max(receiver.unit, 0) * group.reads + sender


@cache
def layout_of(anatomy: Anatomy, nodes: str = "heads") -> Layout:
    """The layout of a model, made once."""
    return Layout(anatomy, nodes)


def fitting(anatomy: Anatomy, sites: Iterable[Site]) -> Layout:
    """The layout in which some sites are nodes: of neurons if one of them is a neuron.

    Raises:
        SiteError: whole MLPs beside neurons.
    """
    kinds = {site.kind for site in sites}
    if kinds >= {"mlp", "neuron"}:
        raise SiteError("a circuit has whole MLPs or neurons among its nodes, not both")
    return layout_of(anatomy, "neurons" if "neuron" in kinds else "heads")


def senders(anatomy: Anatomy) -> list[Site]:
    """All nodes that write to the residual stream: input, then per layer heads and MLP."""
    return list(layout_of(anatomy).sending)


def nodes(anatomy: Anatomy) -> list[Site]:
    """All nodes in order of computation: those that send, then the logits."""
    return [*senders(anatomy), LOGITS]


def ports(anatomy: Anatomy) -> list[tuple[Site, str | None]]:
    """All input ports in order: per layer the q, k, v ports of the heads, the MLP; then logits."""
    return list(layout_of(anatomy).reading)
