"""The picture of a validation: every estimate against the exact effect, site by site."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from circuits.results.pictures import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from circuits.validation.result import Comparison, Validation

SIZE = 1.9
COLOURS = {"noising": "#0072B2", "denoising": "#D55E00"}


def scatter(validation: Validation) -> Figure:
    """One small plot per method (rows) and kind of site (columns); the diagonal is agreement.

    Both axes of a plot have the same scale, and the numbers above it are Pearson correlations.
    """
    methods = list(dict.fromkeys(c.method for c in validation.comparisons))
    kinds = list(dict.fromkeys(c.kind for c in validation.comparisons))
    drawn = figure(SIZE * len(kinds) + 1, SIZE * len(methods) + 1)
    axes = drawn.subplots(len(methods), len(kinds), squeeze=False)
    for row, method in enumerate(methods):
        axes[row, 0].set_ylabel(method.replace(":", "\n").replace("+", "\n"), fontsize=8)
        for column, kind in enumerate(kinds):
            parts = [c for c in validation.comparisons if (c.method, c.kind) == (method, kind)]
            _panel(axes[row, column], parts, kind if row == 0 else "")
    names = [line for line in axes[0, 0].get_lines() if line.get_label() in COLOURS]
    drawn.legend(handles=names, loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    drawn.supxlabel(f"exact effect ({validation.metric})", fontsize=9)
    drawn.supylabel("estimate", fontsize=9)
    return drawn


def _panel(plot: Axes, parts: list[Comparison], title: str) -> None:
    correlations = [f"{c.measures['pearson'].value:.2f}" for c in parts]
    plot.set_title("\n".join(filter(None, (title, "r " + " / ".join(correlations)))), fontsize=7)
    for c in parts:
        plot.plot(c.exact, c.estimate, ".", ms=3, color=COLOURS[c.direction], label=c.direction)
    plot.axline((0, 0), slope=1, color="0.7", lw=0.6, zorder=0)
    values = np.concatenate([[0.0], *(np.concatenate([c.exact, c.estimate]) for c in parts)])
    edge = 0.05 * np.ptp(values) or 1.0
    ends = values.min() - edge, values.max() + edge
    plot.set(xlim=ends, ylim=ends, box_aspect=1)
    plot.locator_params(nbins=4)
    plot.tick_params(labelsize=6)
