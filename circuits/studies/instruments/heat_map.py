"""Patching by layer and position: where in the prompt the answer is held, layer by layer.

Every cell is ``E`` of one site at one position (:mod:`patching.scoring`): with the method
``activation``, the exact effect of putting the other run's value there (activation patching, Meng
et al. 2022; Wang et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from circuits.arguments import check_kinds
from circuits.results.report import Picture, Report, Reported
from circuits.results.tables import Table
from circuits.studies.instruments.measured import Measured, frame_of, plain_rows
from patching.heat_map import HeatMap
from patching.heat_map import heat_map as drawn_up
from tasks.errors import counted

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from circuits.clock import Progress
    from patching.choices import Direction, Positions
    from patching.model import Model
    from patching.scores import Scores
    from tasks import PromptPairs


@dataclass(frozen=True, eq=False)
class PatchingMap(Reported):
    """Effects by layer (rows) and position (columns), in units of the metric.

    scores    the mean effects over prompts, of every site and position
    heat      the same as a table
    effects   the same by prompt
    """

    scores: Scores
    heat: HeatMap
    effects: Measured

    def to_frame(self) -> pd.DataFrame:
        """Layers by positions: the mean effect over prompts."""
        return self.heat.to_frame().rename_axis("site")

    @property
    def cells(self) -> pd.DataFrame:
        """A row for every site and position: the mean over prompts and its interval (95 %)."""
        return frame_of({"effect": self.effects}, self.effects.parts, "site")

    def report(self) -> Report:
        """The table and its picture."""
        told = f"{counted(self.scores.count, 'prompt pair')}: {self.heat.title}"
        return Report.of(told, Table.of(self.to_frame()), Picture(self.figure, "effects by layer"))

    def figure(self) -> Figure:
        """Layers upwards, positions from left to right."""
        from circuits.studies.instruments.plot import of_heat_map

        return of_heat_map(self.heat, f"{self.scores.metric}, {self.scores.direction}")

    def to_json(self) -> dict[str, Any]:
        """Plain values for another program."""
        rows = self.heat.values.tolist()
        values = [[None if value != value else value for value in row] for row in rows]
        return {
            "n": self.scores.count,
            "sites": list(self.heat.rows),
            "positions": list(self.heat.columns),
            "effects": values,
            "cells": plain_rows(self.cells),
        }

    def __repr__(self) -> str:
        rows, columns = len(self.heat.rows), len(self.heat.columns)
        return f"PatchingMap({rows} sites by {columns} positions)"


def heat_map(
    model: Model,
    pairs: PromptPairs,
    *,
    site: str = "resid_pre",
    positions: Positions | None = None,
    method: str = "activation",
    direction: Direction = "noising",
    metric: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> PatchingMap:
    """Patch one kind of site, layer by layer and position by position; see :class:`PatchingMap`.

    `site` is a kind such as resid_pre, attn_out or mlp_out. `positions` is named (those that the
    task names; the default where it names some) or token (each). `seed` draws the bootstrap of the
    intervals.

    >>> circuits.heat_map(model, pairs)
    PatchingMap(4 sites by ... positions)

    Raises:
        MethodError: an unknown method, direction or metric.
        SiteError: a kind of site that this model does not have, or positions that the prompts
            do not name.
    """
    from patching.scoring import prompt_scores

    check_kinds(model=model, pairs=pairs)
    where: Positions = positions or ("named" if pairs.positions else "token")
    measured: Any = metric or pairs.metric
    scores, rows = prompt_scores(
        model,
        pairs,
        method,
        "site",
        direction,
        measured,
        sites=site,
        positions=where,
        batch_size=batch_size,
        progress=progress,
    )
    return PatchingMap(scores, drawn_up(scores), Measured(tuple(scores.names), rows, seed))
