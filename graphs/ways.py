"""The ways of edges between placed nodes, as smooth curves that all formats can draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphs.order import OF_MLPS
from graphs.shapes import Looks, Path, Point, Spot

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph
    from patching.sites import Edge, Site

_DEEPEST, _GATHER = 120.0, 14.0


@dataclass(frozen=True)
class Ends:
    """Where edges may leave and enter nodes."""

    spots: Mapping[str, Spot]
    ports: Mapping[str, tuple[str, ...]]
    looks: Looks

    def port(self, site: Site, port: str | None, towards: float) -> Point:
        """On the left side: in the middle of the port's share of it, or level with the sender."""
        spot = self.spots[site.name]
        left = spot.x - spot.width / 2
        if port is None:
            return left, self._level(spot, towards)
        known = self.ports[site.name]
        share = (known.index(port) + 0.5) / len(known)
        return left, spot.y + (share - 0.5) * (spot.height - 2)

    def gather(self, site: Site, ports: int) -> list[Point]:
        """Where the edges of one sender into several ports of a head part: a little before it."""
        spot = self.spots[site.name]
        return [(spot.x - spot.width / 2 - _GATHER, spot.y)] if ports > 1 else []

    def out(self, site: Site, towards: float) -> Point:
        """On the right side, of an end of the model level with what follows."""
        spot = self.spots[site.name]
        return spot.x + spot.width / 2, self._level(spot, towards)

    def _level(self, spot: Spot, towards: float) -> float:
        if spot.height <= 2 * self.looks.node_height:
            return spot.y
        room = spot.height / 2 - 6
        return min(max(towards, spot.y - room), spot.y + room)


def ways(
    graph: CircuitGraph, ends: Ends, lanes: Mapping[tuple[str, str], Sequence[Point]]
) -> dict[str, Path]:
    """A curve for every edge by its name.

    Heads and the ends of the model are left to the right and entered from the left; MLPs and
    neurons, which stand below, are entered and left at their upper side. Between two of these, or
    an end, an edge that crosses others swings below them. Edges of one sender into several ports
    of a head have one way, and part just before it.
    """
    lower = sorted({spot.x for name, spot in ends.spots.items() if name[:1] == "m"})
    found = {}
    parallel = Counter((e.edge.sender.name, e.edge.receiver.name) for e in graph.scored_edges)
    for item in graph.scored_edges:
        edge = item.edge
        names = (edge.sender.name, edge.receiver.name)
        points = [*lanes.get(names, ()), *ends.gather(edge.receiver, parallel[names])]
        found[item.name] = _way(edge, ends, points, lower)
    return found


def _is_lower(site: Site) -> bool:
    return site.kind in OF_MLPS


def _way(edge: Edge, ends: Ends, lanes: Sequence[Point], lower: Sequence[float]) -> Path:
    here, there = ends.spots[edge.sender.name], ends.spots[edge.receiver.name]
    low_start, low_end = _is_lower(edge.sender), _is_lower(edge.receiver)
    if "head" not in (edge.sender.kind, edge.receiver.kind) and (low_start or low_end):
        passed = sum(here.x < x < there.x for x in lower)
        start = ends.out(edge.sender, there.y)
        end = ends.port(edge.receiver, None, here.y)
        return smooth([start, end]) if not passed else _below(here, there, passed)
    towards = lanes[0][1] if lanes else there.y
    start = (here.x, here.y - here.height / 2) if low_start else ends.out(edge.sender, towards)
    last = lanes[-1][1] if lanes else here.y
    end = (
        (there.x, there.y - there.height / 2)
        if low_end
        else ends.port(edge.receiver, edge.port, last)
    )
    return smooth([start, *lanes, end], rise=low_start, fall=low_end)


def _below(here: Spot, there: Spot, passed: int) -> Path:
    depth = min(16.0 + 9.0 * passed, _DEEPEST)
    start = (here.x + min(here.width / 4, 8.0), here.y + here.height / 2)
    end = (there.x - min(there.width / 4, 8.0), there.y + there.height / 2)
    floor = max(start[1], end[1]) + depth
    slant = (there.x - here.x) / 5
    return _rounded([start, (start[0] + slant, floor), (end[0] - slant, floor), end])


def smooth(points: Sequence[Point], rise: bool = False, fall: bool = False) -> Path:
    """A curve through all points, level in each.

    With ``rise`` it starts upwards, with ``fall`` it ends downwards.
    """
    path = [points[0]]
    for index, (x, y) in enumerate(points[1:]):
        from_x, from_y = points[index]
        bend = max((x - from_x) * 0.45, 8.0)
        climb = max(abs(y - from_y) * 0.6, 10.0)
        first = (from_x, from_y - climb) if rise and index == 0 else (from_x + bend, from_y)
        ends_down = fall and index == len(points) - 2
        path += [first, (x, y - climb) if ends_down else (x - bend, y), (x, y)]
    return _rounded(path)


def _rounded(path: Sequence[Point]) -> Path:
    return tuple((round(x, 1), round(y, 1)) for x, y in path)


def ports_of(graph: CircuitGraph) -> dict[str, tuple[str, ...]]:
    """The ports of every node that edges enter, in the order q, k, v."""
    found: dict[str, set[str]] = {name: set() for name in graph.nodes}
    for item in graph.scored_edges:
        if item.edge.port:
            found[item.edge.receiver.name].add(item.edge.port)
    return {name: tuple(sorted(ports, key="qkv".index)) for name, ports in found.items()}
