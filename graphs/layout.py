"""Places for the nodes of a circuit without Graphviz: rows in order of computation."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from graphs.order import layer_of
from graphs.style import relative, text_width

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph
    from graphs.parts import ScoredNode

ROUTED = 300
MOST_IN_ROW = 12
_ROW, _GAP, _LANE, _SWEEPS = 78.0, 14.0, 4.0, 16

# A node, or the lane of an edge (its sender and receiver) in a row.
Name = str | tuple[str, str, int]
Joins = dict[Name, list[tuple[Name, float]]]


@dataclass(frozen=True, slots=True)
class Spot:
    """A node's centre and width in points, y growing downwards."""

    x: float
    y: float
    width: float


@dataclass(frozen=True, slots=True)
class Layout:
    """A place for every node, and for long edges the points they pass between the nodes.

    ``routes`` are by sender and receiver, since the edges into q, k and v go side by side.
    """

    spots: dict[str, Spot]
    routes: dict[tuple[str, str], list[tuple[float, float]]]


def layout(graph: CircuitGraph) -> Layout:
    """A place for everything; the same circuit always has the same layout.

    The strongest :data:`ROUTED` edges that pass over rows have a lane of their own in each of
    them. Nodes and lanes are drawn towards the middle of what they are joined to, weighted by
    ``|score|``, down and up the rows in turn. In a row nothing overlaps: in their order, all
    stand as near to where they are drawn as their widths allow (least squares, by pooling
    neighbours that collide).
    """
    plan = _plan(graph)
    for row in plan.rows:
        plan.place(row, dict.fromkeys(row, 0.0))
    for sweep in range(_SWEEPS):
        down, last = sweep % 2 == 0, sweep >= _SWEEPS - 4
        joins = [
            *([plan.above] if down or last else []),
            *([plan.below] if last or not down else []),
        ]
        for row in plan.rows if down else reversed(plan.rows):
            wanted = {name: plan.middle(name, joins) for name in row}
            row.sort(key=lambda name: wanted[name])
            plan.place(row, wanted)
    return _finished(plan)


@dataclass(frozen=True)
class _Plan:
    rows: list[list[Name]]
    widths: dict[Name, float]
    above: Joins = field(default_factory=lambda: defaultdict(list))
    below: Joins = field(default_factory=lambda: defaultdict(list))
    x: dict[Name, float] = field(default_factory=dict)

    def join(self, upper: Name, lower: Name, weight: float) -> None:
        self.below[upper].append((lower, weight))
        self.above[lower].append((upper, weight))

    def middle(self, name: Name, joins: list[Joins]) -> float:
        joined = [pair for side in joins for pair in side.get(name, ())]
        weight = sum(pull for _, pull in joined)
        if not weight:
            return self.x[name]
        return sum(self.x[other] * pull for other, pull in joined) / weight

    def place(self, row: list[Name], wanted: dict[Name, float]) -> None:
        """Centres as near to ``wanted`` as can be, in the order of ``row``, without overlap."""
        offsets, edge = [], 0.0
        for name in row:
            offsets.append(edge + self.widths[name] / 2)
            edge += self.widths[name] + (_GAP if isinstance(name, str) else _LANE)
        pools: list[tuple[float, int]] = []
        for name, offset in zip(row, offsets, strict=True):
            mean, size = wanted[name] - offset, 1
            while pools and pools[-1][0] >= mean:
                before, count = pools.pop()
                mean, size = (before * count + mean * size) / (count + size), size + count
            pools.append((mean, size))
        shifts = [mean for mean, size in pools for _ in range(size)]
        for name, shift, offset in zip(row, shifts, offsets, strict=True):
            self.x[name] = shift + offset


def rows_of(graph: CircuitGraph) -> list[list[ScoredNode]]:
    """The nodes row by row: input, then for each layer its heads and its MLP, then logits.

    A row of a circuit without edges has at most :data:`MOST_IN_ROW` nodes; the rest follow below.
    """
    anatomy = graph.info.anatomy

    def row(node: ScoredNode) -> tuple[int, bool]:
        return layer_of(node.site, anatomy), node.site.kind in ("mlp", "neuron")

    rows = [list(nodes) for _, nodes in groupby(graph.scored_nodes, key=row)]
    if graph.level == "edge":
        return rows
    starts = [(nodes, i) for nodes in rows for i in range(0, len(nodes), MOST_IN_ROW)]
    return [nodes[i : i + MOST_IN_ROW] for nodes, i in starts]


def _plan(graph: CircuitGraph) -> _Plan:
    rows: list[list[Name]] = [[node.name for node in row] for row in rows_of(graph)]
    widths: dict[Name, float] = {name: max(text_width(name) + 10, 54.0) for name in graph.nodes}
    plan, level = _Plan(rows, widths), {n: i for i, row in enumerate(rows) for n in row}
    edges = sorted(graph.scored_edges, key=lambda item: -abs(item.score))
    for order, item in enumerate(edges):
        ends = (item.edge.sender.name, item.edge.receiver.name)
        weight = 0.05 + relative(item.score, abs(edges[0].score))
        between = range(level[ends[0]] + 1, level[ends[1]])
        lanes: list[Name] = [(*ends, row) for row in between]
        if lanes and order >= ROUTED and lanes[0] not in widths:
            continue
        for row, lane in zip(between, lanes, strict=True):
            if lane not in widths:
                rows[row].append(lane)
                widths[lane] = 8.0
        for upper, lower in pairwise([ends[0], *lanes, ends[1]]):
            plan.join(upper, lower, weight)
    return plan


def _finished(plan: _Plan) -> Layout:
    least = min((plan.x[n] - plan.widths[n] / 2 for n in plan.x), default=0.0)
    spots: dict[str, Spot] = {}
    routes: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for index, row in enumerate(plan.rows):
        for name in row:
            x, y = round(plan.x[name] - least, 1), index * _ROW
            if isinstance(name, str):
                spots[name] = Spot(x, y, round(plan.widths[name], 1))
            else:
                routes.setdefault(name[:2], []).append((x, y))
    return Layout(spots, routes)
