"""The picture of an All-for-One search: the grid as a heat map, the necessity of every block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from circuits.results.pictures import figure, literal, whiskers
from circuits.studies.allforone.stages import MAIN
from tasks.errors import FormatError, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from circuits.studies.allforone.result import AllForOne

LABELLED = 12
"""Grids of more rows than this are drawn without numbers."""


def draw(search: AllForOne, variant: str = MAIN) -> Figure:
    """The heat map of one grid, with CAMA alone and the necessity curve beside it.

    Raises:
        FormatError: no grid of that name.
    """
    if variant not in search.grids:
        raise FormatError(unknown("grid", variant, search.grids))
    drawn = figure(10.5, 4.2)
    grid, curves = drawn.subplots(1, 2, width_ratios=(3, 2))
    _heat_map(grid, search, variant)
    _curves(curves, search)
    title = f"All-for-One: {search.title} ({variant})"
    drawn.suptitle(literal(title), fontsize=11)
    return drawn


def _heat_map(axes: Axes, search: AllForOne, variant: str) -> None:
    grid = search.grids[variant]
    layers = search.layers
    shares = np.full((layers + 1, layers + 1), np.nan)
    for (wait, transfer), share in grid.items():
        shares[wait + 1, transfer] = share.value
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="cividis", origin="lower", aspect="auto")
    axes.figure.colorbar(image, ax=axes, label="share of right answers kept")
    step = 1 if layers < LABELLED else 4
    axes.set_xticks(range(0, layers + 1, step))
    names = ["embedding", *map(str, range(layers))]
    axes.set_yticks(range(0, layers + 1, step), names[::step])
    axes.set_xlabel("T: blocks that transfer")
    axes.set_ylabel("W: CAMA on the residual after block")
    if layers < LABELLED:
        for (row, column), value in np.ndenumerate(shares):
            if value == value:
                ink = "black" if value > 0.55 else "white"
                text = f"{100 * value:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    if search.chosen is not None and variant == MAIN:
        from matplotlib.patches import Rectangle

        corner = (search.chosen.transfer - 0.5, search.chosen.wait + 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#d55e00", linewidth=2.5))


def _curves(axes: Axes, search: AllForOne) -> None:
    waits = sorted(search.waiting)
    alone = [search.waiting[wait].value for wait in waits]
    axes.plot(waits, alone, marker="o", color="#0072b2", label="CAMA alone after block")
    blocks = sorted(search.necessity)
    cut = [search.necessity[block] for block in blocks]
    values = [share.value for share in cut]
    axes.errorbar(
        blocks,
        values,
        yerr=whiskers(values, [share.interval for share in cut]),
        marker="s",
        linestyle="--",
        color="#d55e00",
        label="last token cut off in block",
    )
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("block (-1: embedding)")
    axes.set_ylabel("share of right answers kept")
    axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
