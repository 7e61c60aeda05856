"""The points of an All-for-One grid, and which of them is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from circuits.results.intervals import Proportion

Grid = Mapping[tuple[int, int], Proportion]
MAIN = "cama, abp"


@dataclass(frozen=True, slots=True)
class Stages:
    """Blocks 0 to `wait` wait, the `transfer` blocks after them transfer, the rest computes."""

    wait: int
    transfer: int

    def describe(self, layers: int) -> str:
        """The blocks of each stage, counted from 0."""
        first, last = self.wait + 1, self.wait + self.transfer
        return "; ".join(
            [
                _blocks("wait: {}, then CAMA on the residual after block {}", 0, self.wait)
                if self.wait >= 0
                else "no block waits (CAMA on the embedding)",
                _blocks("transfer: {}", first, last) if self.transfer else "none transfers",
                _blocks("last token alone: {}", last + 1, layers - 1)
                if last < layers - 1
                else "no block computes alone",
            ]
        )


def choose(grid: Grid, tolerance: float) -> Stages | None:
    """The latest W that some T makes good, with the smallest such T; None where there is none.

    Good means a share of at least `1 - tolerance`. T = 0 counts like any other.
    """
    good = [point for point, share in grid.items() if share.value >= 1 - tolerance]
    if not good:
        return None
    wait = max(w for w, _ in good)
    return Stages(wait, min(t for w, t in good if w == wait))


def closest(grid: Grid) -> Stages:
    """The point of the largest share; among equals the latest W, then the smallest T."""
    wait, transfer = max(grid, key=lambda point: (grid[point].value, point[0], -point[1]))
    return Stages(wait, transfer)


def best(grid: Grid, wait: int) -> Proportion:
    """The best share over T at one W."""
    return max((share for (w, _), share in grid.items() if w == wait), key=lambda s: s.value)


def _blocks(text: str, first: int, last: int) -> str:
    blocks = f"block {first}" if first == last else f"blocks {first} to {last}"
    return text.format(blocks, last)
