"""A picture before it is a file: rectangles, curves and lines of text, each with its place."""

from __future__ import annotations

from dataclasses import dataclass

from graphs.shapes import Path


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle around its middle ``x, y``; without ``stroke`` it has no frame."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    stroke: str = ""
    radius: float = 0.0
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class Curve:
    """A line along ``path``."""

    path: Path
    colour: str
    width: float
    dashed: bool = False
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text; ``x`` is its ``anchor`` (start, middle or end), ``y`` its base line."""

    x: float
    y: float
    text: str
    size: float
    colour: str
    anchor: str = "start"
    opacity: float = 1.0


Mark = Box | Curve | Text


@dataclass(frozen=True, slots=True)
class Part:
    """Marks that belong together: a node, an edge, or what decorates.

    ``title`` is shown where a reader points at it, in the formats that can.
    """

    marks: tuple[Mark, ...]
    kind: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A whole picture: its frame in points, y growing downwards, and its parts from back to front.

    ``width`` is what the picture is printed at, in inches; None leaves a point a point.
    """

    left: float
    top: float
    right: float
    bottom: float
    parts: tuple[Part, ...]
    title: str = ""
    font: str = ""
    width: float | None = None

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in points."""
        return self.right - self.left, self.bottom - self.top

    @property
    def scale(self) -> float:
        """Printed points for a point of the picture."""
        return 1.0 if self.width is None else self.width * 72 / self.size[0]
