"""The layout of a circuit with positions: positions from left to right, layers upwards."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from graphs.order import OF_MLPS, layer_of
from graphs.shapes import Column, Layout, Looks, Path, Point, Spot
from graphs.style import clean
from graphs.ways import ports_of

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph
    from graphs.parts import ScoredNode
    from patching.sites import Edge

_ROW, _BESIDE, _BETWEEN, _GATHER = 58.0, 8.0, 34.0, 12.0
_LOOKS = Looks(52.0, 22.0, 0.0, _BESIDE, short=False, slots=False, end_width=52.0)

Position = int | str | None


def grid(graph: CircuitGraph) -> Layout:
    """Every position is a column; a row holds the heads, or the MLP, of a layer.

    Numbered positions come in order, named ones in the order of their first node; what is not tied
    to a position stands in a column of its own on the left.
    """
    rows = _rows(graph)
    cells: dict[tuple[int, Position], list[ScoredNode]] = defaultdict(list)
    for node in graph.scored_nodes:
        cells[rows[node.name], node.site.position].append(node)
    spots: dict[str, Spot] = {}
    columns, x = [], 0.0
    for position in _positions(graph):
        widest = max(len(nodes) for (_, at), nodes in cells.items() if at == position)
        width = widest * (_LOOKS.width + _BESIDE) - _BESIDE
        for (row, at), nodes in cells.items():
            if at == position:
                left = x + (width - len(nodes) * (_LOOKS.width + _BESIDE) + _BESIDE) / 2
                for order, node in enumerate(nodes):
                    middle = left + order * (_LOOKS.width + _BESIDE) + _LOOKS.width / 2
                    spots[node.name] = Spot(middle, -row * _ROW, _LOOKS.width, _LOOKS.node_height)
        label = "all positions" if position is None else str(position)
        if isinstance(position, int) and (token := graph.info.token(position).strip()):
            label = f"{label} {clean(token, 12)}"
        columns.append(Column(label, x, x + width))
        x += width + _BETWEEN
    ports = ports_of(graph)
    paths = _ways_up(graph, spots, ports)
    return Layout(spots, paths, tuple(columns), _LOOKS, ports, _bands(graph, spots))


def _rows(graph: CircuitGraph) -> dict[str, int]:
    """The row of every node, from the input upwards."""

    def row(node: ScoredNode) -> tuple[int, bool]:
        return layer_of(node.site, graph.info.anatomy), node.site.kind in OF_MLPS

    order = {key: i for i, key in enumerate(sorted({row(node) for node in graph.scored_nodes}))}
    return {node.name: order[row(node)] for node in graph.scored_nodes}


def _positions(graph: CircuitGraph) -> list[Position]:
    found = list(dict.fromkeys(node.site.position for node in graph.scored_nodes))
    numbers = sorted(p for p in found if isinstance(p, int) and p >= 0)
    ends = sorted(p for p in found if isinstance(p, int) and p < 0)
    named = [p for p in found if isinstance(p, str)]
    return [*([None] if None in found else []), *numbers, *named, *ends]


def _ways_up(
    graph: CircuitGraph, spots: dict[str, Spot], ports: dict[str, tuple[str, ...]]
) -> dict[str, Path]:
    """A curve for every edge; those of one sender into several ports part just below the head."""
    parallel = Counter((e.edge.sender.name, e.edge.receiver.name) for e in graph.scored_edges)
    return {
        item.name: _upwards(
            item.edge,
            spots,
            ports,
            parallel[item.edge.sender.name, item.edge.receiver.name] > 1,
        )
        for item in graph.scored_edges
    }


def _upwards(
    edge: Edge, spots: dict[str, Spot], ports: dict[str, tuple[str, ...]], gathered: bool
) -> Path:
    here, there = spots[edge.sender.name], spots[edge.receiver.name]
    known = ports[edge.receiver.name]
    share = (known.index(edge.port) + 0.5) / len(known) - 0.5 if edge.port else 0.0
    start = (here.x, here.y - here.height / 2)
    end = (there.x + share * (there.width - 8), there.y + there.height / 2)
    stops = [start, *([(there.x, end[1] + _GATHER)] if gathered else []), end]
    path: list[Point] = [start]
    for (x, y), (to_x, to_y) in pairwise(stops):
        bend = max((y - to_y) * 0.45, min(10.0, y - to_y))
        path += [(x, y - bend), (to_x, to_y + bend), (to_x, to_y)]
    return tuple((round(x, 1), round(y, 1)) for x, y in path)


def _bands(graph: CircuitGraph, spots: dict[str, Spot]) -> tuple[Column, ...]:
    reach: dict[int, list[float]] = {}
    for node in graph.scored_nodes:
        layer = layer_of(node.site, graph.info.anatomy)
        spot = spots[node.name]
        sides = (spot.y - spot.height / 2, spot.y + spot.height / 2)
        reach.setdefault(layer, []).extend(sides)
    names = {-1: "input", graph.info.anatomy.n_layers: "logits"}
    return tuple(
        Column(names.get(layer, f"layer {layer}"), min(sides), max(sides))
        for layer, sides in reach.items()
    )
