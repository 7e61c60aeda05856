"""Places for a circuit's nodes and ways for its edges, the same for the page and the picture.

Time goes from left to right: a column for each layer that has nodes, its heads above and its MLP
or neurons below. Where nodes are tied to positions, positions are columns instead and layers rows
that go upwards (:mod:`graphs.grid`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from graphs.grid import grid
from graphs.order import OF_MLPS, layer_of
from graphs.shapes import Column, Layout, Looks, Point, Spot, looks_for
from graphs.style import relative
from graphs.ways import Ends, ports_of, ways

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph
    from graphs.parts import ScoredNode

WIDTH = 1060.0
"""What a layout tries to be as wide as, in points."""

ROUTED, MOST_IN_COLUMN = 60, 12
_GAP, _LANE, _SWEEPS, _TALLEST, _NAME = 9.0, 4.0, 12, 2.2, 6

# A head, or the lane of an edge (its sender and receiver) in a column.
Name = str | tuple[str, str, int]
Joins = dict[Name, list[tuple[Name, float]]]


def layout(graph: CircuitGraph, width: float = WIDTH) -> Layout:
    """A place for everything; the same circuit always has the same layout.

    It is at most ``width`` points wide where its columns can be made that narrow.

    The strongest :data:`ROUTED` edges that pass over columns of heads have a lane of their own in
    each of them. Heads and lanes are drawn towards the middle of what they are joined to, weighted
    by ``|score|``, over the columns to the right and back in turn. In a column nothing overlaps:
    in their order, all stand as near to where they are drawn as their heights allow (least
    squares, by pooling neighbours that collide).
    """
    if any(node.site.position is not None for node in graph.scored_nodes):
        return grid(graph)
    stacks = _stacks(graph)
    # Without edges a node's score is written beside its name.
    looks = looks_for(len(stacks), width, _NAME if graph.edges else 2 * _NAME)
    xs = _across(stacks, looks)
    plan = _plan(graph, stacks, looks)
    _settle(plan)
    return _finished(graph, stacks, looks, xs, plan)


@dataclass(frozen=True, slots=True)
class Stack:
    """Nodes above one another: heads, MLP or neurons of a layer, or an end of the model."""

    layer: int
    kind: str
    nodes: tuple[ScoredNode, ...]


def _stacks(graph: CircuitGraph) -> list[Stack]:
    """The stacks from left to right; without edges, at most :data:`MOST_IN_COLUMN` nodes each."""
    anatomy, found = graph.info.anatomy, dict[tuple[int, str], list["ScoredNode"]]()
    for node in graph.scored_nodes:
        kind = "lower" if node.site.kind in OF_MLPS else "end"
        kind = "upper" if node.site.kind == "head" else kind
        found.setdefault((layer_of(node.site, anatomy), kind), []).append(node)
    most = len(graph.nodes) if graph.edges else MOST_IN_COLUMN
    return [
        Stack(layer, kind, tuple(nodes[i : i + most]))
        for (layer, kind), nodes in found.items()
        for i in range(0, len(nodes), most)
    ]


def _across(stacks: list[Stack], looks: Looks) -> list[float]:
    """The middle of every stack; heads and MLPs may stand above one another."""
    free = {"upper": 0.0, "lower": 0.0}
    xs, x = [], 0.0
    for stack in stacks:
        width = looks.end_width if stack.kind == "end" else looks.width
        kinds = ("upper", "lower") if stack.kind == "end" else (stack.kind,)
        x = max(x, *(free[kind] + width / 2 for kind in kinds))
        xs.append(x)
        for kind in kinds:
            free[kind] = x + width / 2 + looks.gap
        x += looks.advance
    return xs


@dataclass(frozen=True)
class _Plan:
    columns: list[list[Name]]
    heights: dict[Name, float]
    fixed: dict[Name, float]
    before: Joins = field(default_factory=lambda: defaultdict(list))
    after: Joins = field(default_factory=lambda: defaultdict(list))
    y: dict[Name, float] = field(default_factory=dict)

    def join(self, left: Name, right: Name, weight: float) -> None:
        self.after[left].append((right, weight))
        self.before[right].append((left, weight))

    def middle(self, name: Name, joins: list[Joins]) -> float:
        joined = [pair for side in joins for pair in side.get(name, ())]
        places = [(self.fixed.get(other, self.y.get(other, 0.0)), w) for other, w in joined]
        weight = sum(pull for _, pull in places)
        return sum(y * pull for y, pull in places) / weight if weight else self.y[name]

    def place(self, column: list[Name], wanted: dict[Name, float]) -> None:
        """Middles as near to ``wanted`` as can be, in the order of ``column``, without overlap."""
        offsets, edge = [], 0.0
        for name in column:
            offsets.append(edge + self.heights[name] / 2)
            edge += self.heights[name] + (_GAP if isinstance(name, str) else _LANE)
        pools: list[tuple[float, int]] = []
        for name, offset in zip(column, offsets, strict=True):
            mean, size = wanted[name] - offset, 1
            while pools and pools[-1][0] >= mean:
                before, count = pools.pop()
                mean, size = (before * count + mean * size) / (count + size), size + count
            pools.append((mean, size))
        shifts = [mean for mean, size in pools for _ in range(size)]
        for name, shift, offset in zip(column, shifts, offsets, strict=True):
            self.y[name] = shift + offset


def _plan(graph: CircuitGraph, stacks: list[Stack], looks: Looks) -> _Plan:
    """What stands in each column of heads, and what it is joined to."""
    upper = [stack for stack in stacks if stack.kind == "upper"]
    columns: list[list[Name]] = [[node.name for node in stack.nodes] for stack in upper]
    ports = ports_of(graph)
    heights: dict[Name, float] = {
        node.name: looks.height(ports[node.name]) for stack in upper for node in stack.nodes
    }
    # Nodes of the lower row pull their edges down, the ends of the model towards the middle.
    floor = max((sum(heights[n] + _GAP for n in column) for column in columns), default=0.0) / 2
    order = {node.name: i for i, stack in enumerate(stacks) for node in stack.nodes}
    fixed: dict[Name, float] = {}
    for stack in stacks:
        if stack.kind != "upper":
            fixed |= dict.fromkeys(
                (node.name for node in stack.nodes), floor if stack.kind == "lower" else 0.0
            )
    plan = _Plan(columns, heights, fixed)
    places = [i for i, stack in enumerate(stacks) if stack.kind == "upper"]
    edges = sorted(graph.scored_edges, key=lambda item: -abs(item.score))
    for item in edges:
        ends = (item.edge.sender.name, item.edge.receiver.name)
        between = [c for c, at in enumerate(places) if order[ends[0]] < at < order[ends[1]]]
        if ends[0] in fixed and ends[1] in fixed:
            continue
        lanes: list[Name] = [(*ends, column) for column in between]
        known = bool(lanes) and lanes[0] in heights
        if not known and len(heights) - len(order) > ROUTED * len(columns):
            lanes = []
        for column, lane in zip(between, lanes, strict=bool(lanes)):
            if lane not in heights:
                columns[column].append(lane)
                heights[lane] = 2.0
        weight = 0.05 + relative(item.score, abs(edges[0].score))
        for left, right in pairwise([ends[0], *lanes, ends[1]]):
            plan.join(left, right, weight)
    return plan


def _settle(plan: _Plan) -> None:
    for column in plan.columns:
        plan.place(column, dict.fromkeys(column, 0.0))
    for sweep in range(_SWEEPS):
        right, last = sweep % 2 == 0, sweep >= _SWEEPS - 4
        joins = [
            *([plan.before] if right or last else []),
            *([plan.after] if last or not right else []),
        ]
        for column in plan.columns if right else reversed(plan.columns):
            wanted = {name: plan.middle(name, joins) for name in column}
            column.sort(key=lambda name: wanted[name])
            plan.place(column, wanted)


def _finished(
    graph: CircuitGraph, stacks: list[Stack], looks: Looks, xs: list[float], plan: _Plan
) -> Layout:
    ports = ports_of(graph)
    low = min((plan.y[n] - plan.heights[n] / 2 for n in plan.y), default=0.0)
    high = max((plan.y[n] + plan.heights[n] / 2 for n in plan.y), default=0.0)
    total = xs[-1] if xs else 0.0
    stretch = min(max(0.5 * total / max(high - low, 1.0), 1.0), _TALLEST)
    depth = max((high - low) * stretch, 60.0 if graph.edges else 0.0)
    row = looks.node_height
    top = row + 16
    spots: dict[str, Spot] = {}
    lanes: dict[tuple[str, str], list[Point]] = {}
    columns = iter(plan.columns)
    for stack, x in zip(stacks, xs, strict=True):
        if stack.kind == "end":
            middle, height = (depth + row) / 2 + 8, depth + row + 16
            for node in stack.nodes:
                spots[node.name] = Spot(x, middle, looks.end_width, height)
        elif stack.kind == "lower":
            for i, node in enumerate(stack.nodes):
                y = depth + top - row / 2 + i * (row + 5)
                spots[node.name] = Spot(x, y, looks.width, row)
        elif graph.edges:
            for name in next(columns):
                y = (plan.y[name] - low) * stretch
                if isinstance(name, str):
                    spots[name] = Spot(x, y, looks.width, looks.height(ports[name]))
                else:
                    lanes.setdefault(name[:2], []).append((x, y))
        else:
            for i, node in enumerate(stack.nodes):
                spots[node.name] = Spot(x, i * (row + 6) + row / 2, looks.width, row)
    if not graph.edges:
        spots = _stood_up(stacks, spots, row)
    ends = Ends(spots, ports, looks)
    paths = ways(graph, ends, lanes)
    return Layout(spots, paths, _headers(graph, stacks, spots), looks, ports)


def _stood_up(stacks: list[Stack], spots: dict[str, Spot], row: float) -> dict[str, Spot]:
    """Without edges there is one region: what is lower stands below the tallest stack of heads."""
    tallest = max((len(s.nodes) for s in stacks if s.kind == "upper"), default=0)
    moved = {}
    for stack in stacks:
        for i, node in enumerate(stack.nodes):
            spot = spots[node.name]
            first = tallest if stack.kind == "lower" else 0
            y = (first + i) * (row + 6) + row / 2
            height = row if stack.kind == "end" else spot.height
            moved[node.name] = Spot(spot.x, y, spot.width, height)
    return moved


def _headers(
    graph: CircuitGraph, stacks: list[Stack], spots: dict[str, Spot]
) -> tuple[Column, ...]:
    """A band for each layer, from the left of its first node to the right of its last."""
    reach: dict[int, list[float]] = {}
    for stack in stacks:
        if 0 <= stack.layer < graph.info.anatomy.n_layers:
            for node in stack.nodes:
                spot = spots[node.name]
                sides = (spot.x - spot.width / 2, spot.x + spot.width / 2)
                reach.setdefault(stack.layer, []).extend(sides)
    return tuple(Column(str(layer), min(sides), max(sides)) for layer, sides in reach.items())
