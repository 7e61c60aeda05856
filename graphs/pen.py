"""How the parts of one circuit are drawn, relative to its strongest score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from graphs import style

if TYPE_CHECKING:
    from graphs.circuit import CircuitGraph
    from graphs.parts import ScoredEdge, ScoredNode


@dataclass(frozen=True)
class Pen:
    """What colours and widths stand for in a picture of ``graph``.

    Colours stand for the sign of the score, unless ``signs`` gives edges (of a node circuit:
    nodes) other ones by name, and ``words`` says what they mean.
    """

    graph: CircuitGraph
    words: tuple[tuple[float, str], ...] = ()
    signs: Mapping[str, float] | None = None

    @property
    def meaning(self) -> tuple[tuple[float, str], ...]:
        """What the colours stand for: a sign and its words."""
        return self.words or tuple(zip((1.0, -1.0), style.meaning(self.graph.info), strict=True))

    def sign(self, part: ScoredEdge | ScoredNode) -> float:
        """What the colour of a part says: positive, negative, or 0 for neither."""
        if self.signs is not None:
            return self.signs.get(part.name, 0.0)
        return -1.0 if (part.score or 0.0) < 0 else 1.0

    @cached_property
    def largest(self) -> float:
        """The largest ``|score|`` of edges or, where there are none, of nodes."""
        parts = self.graph.scored_edges or self.graph.scored_nodes
        return max((abs(part.score) for part in parts if part.score is not None), default=0.0)

    def share(self, part: ScoredEdge | ScoredNode) -> float:
        """How strong a part is, from 0 to 1."""
        return style.relative(part.score or 0.0, self.largest)
