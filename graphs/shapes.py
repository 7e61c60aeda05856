"""What a layout is made of: places, ways, and how large things are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphs.order import ENDS
from graphs.style import clean, text_width

if TYPE_CHECKING:
    from patching.sites import Site

Point = tuple[float, float]
Path = tuple[Point, ...]
"""A start and, for every piece of the curve, two control points and its end (cubic Beziers)."""

SLOT = 11.0


@dataclass(frozen=True, slots=True)
class Spot:
    """A node's middle and size in points, y growing downwards."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """A band of the picture that belongs together, such as a layer, and what is written at it."""

    label: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Looks:
    """How large the nodes are, and whether their names and ports are written out.

    With ``short`` a node's name leaves out its layer, which is written above the column.
    """

    width: float
    node_height: float
    advance: float
    gap: float
    short: bool
    slots: bool
    end_width: float = 46.0

    def height(self, ports: tuple[str, ...]) -> float:
        """A node is tall enough for a letter at every port."""
        return max(self.node_height, SLOT * len(ports) + 2 if self.slots else 0.0)

    def label(self, site: Site) -> str:
        """What is written on a node."""
        if site.kind in ("input", *ENDS) or not self.short:
            return clean(site.at(None).name, 28)
        letter = {"head": "h", "latent": "f"}.get(site.kind, "n")
        return {"mlp": "mlp", "error": "err"}.get(site.kind, f"{letter}{site.unit}")


@dataclass(frozen=True, slots=True)
class Layout:
    """A place for every node, and a way for every edge by its name.

    ``columns`` are bands across (of layers, or of positions), ``rows`` bands down.
    """

    spots: dict[str, Spot]
    paths: dict[str, Path]
    columns: tuple[Column, ...]
    looks: Looks
    ports: dict[str, tuple[str, ...]]
    rows: tuple[Column, ...] = ()

    @property
    def upright(self) -> bool:
        """Whether edges go upwards, into the lower side of nodes, rather than to the right."""
        return bool(self.rows)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of everything, without what is written around it."""
        spots = self.spots.values()
        points = [point for path in self.paths.values() for point in path]
        xs = [x for s in spots for x in (s.x - s.width / 2, s.x + s.width / 2)]
        ys = [y for s in spots for y in (s.y - s.height / 2, s.y + s.height / 2)]
        xs += [x for x, _ in points]
        ys += [y for _, y in points]
        return (min(xs, default=0), min(ys, default=0), max(xs, default=0), max(ys, default=0))


def looks_for(stacks: int, width: float, longest: int) -> Looks:
    """The largest looks with which so many stacks fit beside one another."""
    advance = width / max(stacks, 1)
    room = text_width("x" * longest)
    if advance >= room + SLOT + 34:
        return Looks(room + SLOT + 10, 24.0, min(advance, 130.0), 24.0, short=False, slots=True)
    if advance >= room + 14:
        return Looks(room + 4, 22.0, advance, 12.0, short=False, slots=False)
    return Looks(26.0, 20.0, max(advance - 1.5, 16.0), 7.0, short=True, slots=False)
