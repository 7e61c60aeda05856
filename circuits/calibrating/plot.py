"""The picture of a calibration: every estimate against the exact effect, site by site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from circuits.calibrating.calibration import Calibration

SIZE = 1.9
COLOURS = {"noising": "#0072B2", "denoising": "#D55E00"}


def scatter(found: Calibration) -> Figure:
    """One small plot per method (rows) and kind of site (columns); the diagonal is agreement."""
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(c.method for c in found.comparisons))
    kinds = list(dict.fromkeys(c.kind for c in found.comparisons))
    figure = Figure(figsize=(SIZE * len(kinds) + 1, SIZE * len(methods) + 0.8))
    axes = figure.subplots(len(methods), len(kinds), squeeze=False)
    for c in found.comparisons:
        row, column = methods.index(c.method), kinds.index(c.kind)
        plot = axes[row, column]
        label = f"{c.direction} r={c.measures['pearson'].value:.2f}"
        plot.plot(c.exact, c.estimate, ".", ms=3, color=COLOURS[c.direction], label=label)
        plot.axline((0, 0), slope=1, color="0.7", lw=0.6, zorder=0)
        plot.tick_params(labelsize=5)
        if row == 0:
            plot.set_title(c.kind, fontsize=8)
        if column == 0:
            plot.set_ylabel(c.method.replace(":", "\n").replace("+", "\n"), fontsize=6)
    for plot in axes.flat:
        plot.legend(fontsize=5, frameon=False, handlelength=0.5, loc="upper left")
    figure.supxlabel(f"exact effect ({found.metric})", fontsize=8)
    figure.supylabel("estimate", fontsize=8)
    figure.tight_layout()
    return figure


def save_scatter(found: Calibration, path: Path) -> None:
    """Write the picture in the format that the suffix names; the same input, the same file."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "circuits", "svg.fonttype": "none"}):
        scatter(found).savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
