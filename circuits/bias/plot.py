"""The picture of a report card: how right every way of answering is, and how often it says A."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphs.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURED = ("accuracy", "A share, gold not A")


def draw(card: Mapping[str, Any], path: Path) -> None:
    """Write :func:`figure` as SVG; the same card always gives the same file."""
    from circuits.display import svg

    write_atomically(path, svg(figure(card)).encode())


def figure(card: Mapping[str, Any]) -> Figure:
    """Accuracy and A share of every way, with intervals, and chance."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    ways = {about["way"]: card["ways"][about["way"]] for about in card["about"]}
    drawn = Figure(figsize=(9, 0.45 * len(ways) + 1.4), layout="constrained")
    FigureCanvasSVG(drawn)
    for axis, name in zip(drawn.subplots(1, 2, sharey=True), PICTURED, strict=True):
        for y, row in enumerate(ways.values()):
            value = row[name]
            middle = value["value"]
            if middle is None:
                continue
            ends = [max(middle - value["low"], 0), max(value["high"] - middle, 0)]
            axis.barh(y, middle, color="#4477aa")
            axis.errorbar(middle, y, xerr=[[ends[0]], [ends[1]]], color="black", capsize=3)
        axis.axvline(card["knows"]["chance"], color="gray", linestyle="--", linewidth=1)
        axis.set_xlim(0, 1)
        axis.set_title(name)
        axis.set_yticks(range(len(ways)), list(ways))
    drawn.axes[0].invert_yaxis()
    return drawn
