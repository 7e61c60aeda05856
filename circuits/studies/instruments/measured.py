"""Numbers by prompt and by part, with their means and intervals, as a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from circuits.results.intervals import TAILS, draw, weights

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Measured:
    """One number for every prompt and part; NaN where a prompt says nothing of it."""

    parts: tuple[str, ...]
    values: Float[np.ndarray, "n parts"]
    seed: int = 0

    @property
    def n(self) -> int:
        """How many prompts say something."""
        return int((~np.isnan(self.values)).any(axis=1).sum())

    def mean(self) -> Float[np.ndarray, " parts"]:
        """The mean over the prompts that say something; NaN where none does."""
        known = ~np.isnan(self.values)
        total = np.where(known, self.values, 0.0).sum(axis=0)
        none = np.full(total.shape, np.nan)
        return np.divide(total, known.sum(axis=0), where=known.any(axis=0), out=none)

    def intervals(self) -> Float[np.ndarray, "2 parts"]:
        """Bootstrap intervals (95 %) over prompts; NaN of fewer than two prompts."""
        return self._ends

    @cached_property
    def _ends(self) -> Float[np.ndarray, "2 parts"]:
        known = ~np.isnan(self.values)
        if self.n < 2:
            return np.full((2, len(self.parts)), np.nan)
        drawn = weights(draw(len(self.values), self.seed))
        total, count = drawn @ np.where(known, self.values, 0.0), drawn @ known
        means = np.divide(total, count, where=count > 0, out=np.full(total.shape, np.nan))
        ends = np.full((2, len(self.parts)), np.nan)
        # Quantiles that need not look for NaN are many times faster.
        lacking = np.isnan(means).any(axis=0)
        ends[:, ~lacking] = np.quantile(means[:, ~lacking], TAILS, axis=0)
        some = known.any(axis=0) & lacking
        ends[:, some] = np.nanquantile(means[:, some], TAILS, axis=0)
        return ends

    def __getitem__(self, part: str) -> float:
        """The mean of one part."""
        return float(self.mean()[self.parts.index(part)])


def frame_of(measures: Mapping[str, Measured], parts: Sequence[str], name: str) -> pd.DataFrame:
    """A row for every part: of each measure the mean, and the ends of its interval."""
    import pandas as pd

    columns: dict[str, np.ndarray] = {}
    for title, measured in measures.items():
        low, high = measured.intervals()
        columns |= {title: measured.mean(), f"{title} low": low, f"{title} high": high}
    return pd.DataFrame(columns, index=pd.Index(parts, name=name))


def plain_rows(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """A data frame's rows by name as plain values; null where a number is not defined."""
    rows = frame.astype(object).to_dict(orient="index")
    return {
        str(name): {str(key): None if value != value else value for key, value in row.items()}
        for name, row in rows.items()
    }
