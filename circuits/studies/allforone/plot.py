"""The picture of an All-for-One search: the grid as a heat map, the necessity of every block."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.studies.allforone.result import MAIN, AllForOne
from tasks.errors import FormatError, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("pdf", "png", "svg")
LABELLED = 12
"""Grids of more rows than this are drawn without numbers."""


def draw(found: AllForOne, path: str | Path, variant: str = MAIN) -> None:
    """Write :func:`figure`; the same search always gives the same file.

    Raises:
        FormatError: another suffix than .svg, .png or .pdf, or no grid of that name.
    """
    from matplotlib import rc_context

    form = Path(path).suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise FormatError(unknown("picture format", form, FORMATS))
    drawn = figure(found, variant)
    # No date and no random ids.
    plain: dict[str, Any] = {"svg": {"Date": None}, "png": {}, "pdf": {"CreationDate": None}}
    with rc_context({"svg.hashsalt": "af1", "svg.fonttype": "none"}):
        drawn.savefig(path, format=form, dpi=144, metadata=plain[form])


def figure(found: AllForOne, variant: str = MAIN) -> Figure:
    """The heat map of one grid, with CAMA alone and the necessity curve beside it.

    Raises:
        FormatError: no grid of that name.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if variant not in found.grids:
        raise FormatError(unknown("grid", variant, found.grids))
    drawn = Figure(figsize=(10.5, 4.2), layout="constrained")
    FigureCanvasAgg(drawn)
    grid, curves = drawn.subplots(1, 2, width_ratios=(3, 2))
    _heat_map(grid, found, variant)
    _curves(curves, found)
    title = f"All-for-One: {found.title} ({variant})"
    drawn.suptitle(title.replace("$", r"\$"), fontsize=11)
    return drawn


def _heat_map(axes: Axes, found: AllForOne, variant: str) -> None:
    grid = found.grids[variant]
    layers = found.layers
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
    if found.chosen is not None and variant == MAIN:
        from matplotlib.patches import Rectangle

        corner = (found.chosen.transfer - 0.5, found.chosen.wait + 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#d55e00", linewidth=2.5))


def _curves(axes: Axes, found: AllForOne) -> None:
    waits = sorted(found.waiting)
    alone = [found.waiting[wait].value for wait in waits]
    axes.plot(waits, alone, marker="o", color="#0072b2", label="CAMA alone after block")
    blocks = sorted(found.necessity)
    cut = [found.necessity[block] for block in blocks]
    ends = np.array([share.interval for share in cut]).T
    values = np.array([share.value for share in cut])
    spread = np.abs(np.stack([values - ends[0], ends[1] - values]))
    axes.errorbar(
        blocks,
        values,
        yerr=spread,
        marker="s",
        linestyle="--",
        color="#d55e00",
        label="last token cut off in block",
    )
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("block (-1: embedding)")
    axes.set_ylabel("share of right answers kept")
    axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
