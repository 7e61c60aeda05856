"""Two circuits side by side: what is only in one, only in the other, and in both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.choose import check_comparable, keep, minus

if TYPE_CHECKING:
    import pandas as pd

    from graphs.circuit import CircuitGraph


@dataclass(frozen=True)
class CircuitDiff:
    """What changed from ``left`` to ``right``.

    >>> graph.diff(graph.top(5)).describe()
    '...'

    Raises:
        FormatError: the circuits are of models of different shape, or of different level.
    """

    left: CircuitGraph
    right: CircuitGraph

    def __post_init__(self) -> None:
        check_comparable(self.left, self.right)

    @property
    def sides(self) -> tuple[tuple[str, CircuitGraph], ...]:
        """Both circuits with what they are called here."""
        return (("left", self.left), ("right", self.right))

    @property
    def removed(self) -> CircuitGraph:
        """What only ``left`` has."""
        return minus(self.left, self.right)

    @property
    def added(self) -> CircuitGraph:
        """What only ``right`` has."""
        return minus(self.right, self.left)

    @property
    def common(self) -> CircuitGraph:
        """What both have, with the scores of ``left``."""
        names = self._shared()
        return keep(self.left, names, rule="subgraph", requested=None, threshold=None)

    @property
    def jaccard(self) -> float:
        """Size of the intersection over size of the union; 1 for two empty circuits."""
        either = len(set(self.left) | set(self.right))
        return len(self._shared()) / either if either else 1.0

    @property
    def rank_correlation(self) -> float | None:
        """Spearman correlation of the scores both have; None for fewer than three, or constants."""
        names = self._shared()
        if len(names) < 3:
            return None
        ranks = [_ranks([graph[name] for name in names]) for graph in (self.left, self.right)]
        if any(np.ptp(rank) == 0 for rank in ranks):
            return None
        return float(np.corrcoef(ranks[0], ranks[1])[0, 1])

    def to_frame(self) -> pd.DataFrame:
        """A data frame with one row per edge or node: status, score on the left and the right."""
        from graphs.frame import diff_frame

        return diff_frame(self)

    def draw(self, path: str | Path, **options: Any) -> None:
        """Write a picture of both in one: ``.svg``, ``.png``, ``.pdf`` or ``.dot``.

        ``options`` and errors are those of :func:`graphs.draw.draw`.
        """
        from graphs.draw import Options, draw_diff

        draw_diff(self, path, Options(**options))

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from graphs.draw import diff_picture

        drawn = diff_picture(self, "svg").decode()
        return {"image/svg+xml": drawn, "text/plain": repr(self)}

    def _shared(self) -> list[str]:
        theirs = set(self.right)
        return [name for name in self.left if name in theirs]

    def describe(self) -> str:
        """One line, such as ``2 only left, 26 only right, 32 in both, Jaccard 0.53``."""
        sizes = f"{len(self.removed)} only left, {len(self.added)} only right"
        return f"{sizes}, {len(self._shared())} in both, Jaccard {self.jaccard:.2f}"

    def __repr__(self) -> str:
        return f"CircuitDiff({self.describe()})"


def _ranks(values: list[float]) -> np.ndarray:
    """Ranks from 0, equal values sharing the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    return (first + (counts - 1) / 2)[place]
