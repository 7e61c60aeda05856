"""What a circuit is made of: nodes and edges with their measured scores, and their checks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from graphs.order import check_circuit_edge, check_node, layer_of
from patching.anatomy import Anatomy
from patching.sites import Edge, Site
from tasks.errors import SiteError


@dataclass(frozen=True, slots=True)
class ScoredEdge:
    """An edge with its measured score, in units of the metric."""

    edge: Edge
    score: float
    standard_error: float | None = None

    @property
    def name(self) -> str:
        """The edge's name, such as ``a5.h5->a9.h6<q>``."""
        return self.edge.name

    @property
    def ends(self) -> frozenset[str]:
        """The names of sender and receiver."""
        return frozenset((self.edge.sender.name, self.edge.receiver.name))

    def attributes(self) -> dict[str, Any]:
        """What other tools are told of this edge; nothing that is None."""
        values: dict[str, Any] = {"port": self.edge.port or "", "score": self.score}
        if self.standard_error is not None:
            values["standard_error"] = self.standard_error
        return values


@dataclass(frozen=True, slots=True)
class ScoredNode:
    """A node, with its measured score where a method scored nodes."""

    site: Site
    score: float | None = None
    standard_error: float | None = None

    @property
    def name(self) -> str:
        """The node's name, such as ``a9.h6``."""
        return self.site.name

    def attributes(self, anatomy: Anatomy) -> dict[str, Any]:
        """What other tools are told of this node; nothing that is None."""
        layer = layer_of(self.site, anatomy)
        values: dict[str, Any] = {"kind": self.site.kind, "layer": layer, "unit": self.site.unit}
        if self.score is not None:
            values["score"] = self.score
        if self.standard_error is not None:
            values["standard_error"] = self.standard_error
        return values


def part_faults(
    anatomy: Anatomy, edges: Iterable[ScoredEdge], nodes: Iterable[ScoredNode]
) -> list[str]:
    """Every name this model does not have, every duplicate, every score that is not a number."""
    edges, nodes = tuple(edges), tuple(nodes)
    faults: list[str] = []
    for node in nodes:
        faults += _site_fault(lambda part=node: check_node(part.site, anatomy))
    for item in edges:
        faults += _site_fault(lambda part=item: check_circuit_edge(part.edge, anatomy))
    for kind, parts in (("node", nodes), ("edge", edges)):
        counts = Counter(part.name for part in parts)
        faults += [f"{kind} '{name}' is listed {c} times" for name, c in counts.items() if c > 1]
        for part in parts:
            faults += _number_faults(kind, part)
    return faults


def _site_fault(check: Any) -> list[str]:
    try:
        check()
    except SiteError as error:
        return [str(error)]
    return []


def _number_faults(kind: str, part: ScoredEdge | ScoredNode) -> list[str]:
    faults = []
    if part.score is not None and not math.isfinite(part.score):
        faults.append(f"{kind} '{part.name}' has the score {part.score}, not a finite number")
    spread = part.standard_error
    if spread is not None and not (math.isfinite(spread) and spread >= 0):
        faults.append(f"{kind} '{part.name}' has the standard error {spread}")
    return faults
