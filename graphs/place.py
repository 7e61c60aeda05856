"""Where the nodes and edges of a picture are."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from graphs.order import layer_of

PAGE_WIDTH = 700.0
"""Of nodes without edges, in points."""

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph


@dataclass(frozen=True, slots=True)
class Box:
    """A node's centre and size, in points, y growing upwards as in Graphviz."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the nodes are, and the splines of the edges, both in the circuit's order."""

    width: float
    boxes: tuple[Box, ...]
    splines: tuple[str, ...]


def read_placement(data: bytes) -> Placement:
    """Read Graphviz' JSON output of :func:`graphs.dot.layout_source`."""
    found = json.loads(data)
    boxes = _by_number(found.get("objects", []), "n")
    splines = _by_number(found.get("edges", []), "e")
    width = float(found["bb"].split(",")[2])
    return Placement(
        width, tuple(map(_box, boxes)), tuple(_within(item["pos"], width) for item in splines)
    )


def _within(spline: str, width: float) -> str:
    """A spline without the far loops that Graphviz now and then draws beyond its own frame."""

    def inside(point: re.Match[str]) -> str:
        return f"{min(max(float(point[1]), -8.0), width + 8.0):g},{point[2]}"

    return re.sub(r"(-?[\d.]+(?:e-?\d+)?),(-?[\d.]+(?:e-?\d+)?)", inside, spline)


def _by_number(items: list[dict[str, Any]], letter: str) -> list[dict[str, Any]]:
    numbered = [item for item in items if "pos" in item and item.get("id", "").startswith(letter)]
    return sorted(numbered, key=lambda item: int(item["id"][1:]))


def _box(item: dict[str, Any]) -> Box:
    x, y = map(float, item["pos"].split(","))
    return Box(x, y, float(item["width"]) * 72, float(item["height"]) * 72)


def in_rows(data: bytes, graph: CircuitGraph) -> Placement:
    """Like :func:`read_placement` for nodes without edges: rows for each layer, from the left.

    A layer of many nodes has several rows, so that the picture fits a page.
    """
    boxes, anatomy, y = [], graph.info.anatomy, 0.0
    pairs = zip(graph.scored_nodes, read_placement(data).boxes, strict=True)
    for _, row in groupby(pairs, key=lambda pair: layer_of(pair[0].site, anatomy)):
        x = 0.0
        for _, box in row:
            if x and x + box.width > PAGE_WIDTH:
                x, y = 0.0, y - box.height - 6
            boxes.append(Box(x + box.width / 2, y, box.width, box.height))
            x += box.width + 8
        y -= 34
    lifted = [Box(box.x, box.y - y - 20, box.width, box.height) for box in boxes]
    return Placement(max((b.x + b.width / 2 for b in boxes), default=0.0), tuple(lifted), ())
