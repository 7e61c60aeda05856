"""Pictures of the instruments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from circuits.results.pictures import SERIES, figure, literal
from graphs.style import NEGATIVE, POSITIVE
from patching.heat_map import HeatMap
from patching.sites import parse_site

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from circuits.studies.instruments.measured import Measured

_ACROSS = 4


def by_layer(
    parts: Sequence[str], values: Mapping[str, Float[np.ndarray, " parts"]], title: str
) -> Figure:
    """One panel for every kind of value: layers by heads, with the MLP in the last column."""
    across = min(len(values), _ACROSS)
    down = -(-len(values) // across)
    cells = [parse_site(part) for part in parts if part not in ("rest", "input")]
    layers = 1 + max((cell.layer for cell in cells), default=0)
    heads = 1 + max((cell.unit for cell in cells if cell.kind == "head"), default=0)
    has_mlps = any(cell.kind == "mlp" for cell in cells)
    drawn = figure(2.6 * across + 0.4, down * max(1.9, 0.11 * layers + 0.9) + 0.4)
    panels = np.atleast_1d(drawn.subplots(down, across)).ravel()
    for axes, (name, numbers) in zip(panels, values.items(), strict=False):
        table = np.full((layers, heads + has_mlps), np.nan)
        for part, number in zip(parts, numbers, strict=True):
            if part in ("rest", "input"):
                continue
            site = parse_site(part)
            table[site.layer, heads if site.kind == "mlp" else site.unit] = number
        _signed(drawn, axes, table)
        axes.set_title(literal(name), fontsize=9)
        axes.set_xlabel("head" + (", then MLP" if has_mlps else ""), fontsize=8)
        axes.set_ylabel("layer", fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in panels[len(values) :]:
        axes.set_axis_off()
    drawn.suptitle(literal(title), fontsize=10)
    return drawn


def by_point(
    points: Sequence[str], values: Mapping[str, Measured], unit: str, title: str
) -> Figure:
    """A line for every run, with its interval as a band."""
    drawn = figure(6.4, 3.4)
    axes = drawn.subplots()
    for colour, (name, measured) in zip(SERIES, values.items(), strict=False):
        at, (low, high) = np.arange(len(points)), measured.intervals()
        axes.plot(at, measured.mean(), color=colour, label=name, marker="o", markersize=3)
        axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.axhline(0, color="#999999", linewidth=0.7)
    step = max(len(points) // 10, 1)
    axes.set_xticks(
        range(0, len(points), step), points[::step], rotation=35, ha="right", fontsize=8
    )
    axes.set_ylabel(literal(unit), fontsize=9)
    axes.set_title(literal(title), fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return drawn


def between_positions(
    pattern: Float[np.ndarray, "q k"], positions: Sequence[str], title: str
) -> Figure:
    """Attention between named positions, with every number written in its cell."""
    size = max(3.2, 0.62 * len(positions) + 1.6)
    drawn = figure(size + 0.8, size)
    axes = drawn.subplots()
    _signed(drawn, axes, pattern)
    names = [literal(name) for name in positions]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("attended to", fontsize=8)
    axes.set_ylabel("attends", fontsize=8)
    axes.set_title(literal(title), fontsize=9)
    _numbers(axes, pattern)
    return drawn


def of_heat_map(heat: HeatMap, title: str) -> Figure:
    """A table of effects: the first row, the first layer, stands at the bottom."""
    rows, columns = heat.values.shape
    drawn = figure(max(4.0, 0.5 * columns + 2.2), max(2.4, 0.24 * rows + 1.3))
    axes = drawn.subplots()
    _signed(drawn, axes, heat.values)
    axes.set_xticks(range(columns), map(literal, heat.columns), rotation=45, ha="right", fontsize=7)
    axes.set_yticks(range(rows), map(literal, heat.rows), fontsize=7)
    axes.set_title(literal(title), fontsize=9)
    if rows * columns <= 150:
        _numbers(axes, heat.values)
    return drawn


def _signed(drawn: Figure, axes: Axes, table: np.ndarray) -> None:
    """Blue for more, orange for less, white for nothing."""
    from matplotlib.colors import LinearSegmentedColormap

    largest = float(np.nanmax(np.abs(table), initial=0.0)) or 1.0
    colours: Any = LinearSegmentedColormap.from_list("signed", [NEGATIVE, "#ffffff", POSITIVE])
    image = axes.imshow(
        table, cmap=colours, vmin=-largest, vmax=largest, aspect="auto", origin="lower"
    )
    drawn.colorbar(image, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)


def _numbers(axes: Axes, table: np.ndarray) -> None:
    largest = float(np.nanmax(np.abs(table), initial=0.0)) or 1.0
    for (row, column), value in np.ndenumerate(table):
        if value == value:
            ink = "white" if abs(value) > 0.6 * largest else "#1f2933"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=ink)
