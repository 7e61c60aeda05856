"""The picture of a report card: how right every way of answering is, and how often it says A."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphs.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURED = {
    "accuracy": "right answers",
    "A share, gold not A": "answers A where another is right",
}
CHOSEN, OTHER = "#0072b2", "#a9b8c6"


def draw(card: Mapping[str, Any], path: Path) -> None:
    """Write :func:`figure` as SVG; the same card always gives the same file."""
    from circuits.display import svg

    write_atomically(path, svg(figure(card)).encode())


def figure(card: Mapping[str, Any]) -> Figure:
    """Accuracy and A share by condition, with intervals, and chance; the chosen edit stands out."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    conditions = {
        about["condition"]: card["conditions"][about["condition"]] for about in card["about"]
    }
    drawn = Figure(figsize=(9, 0.45 * len(conditions) + 1.4), layout="constrained")
    FigureCanvasSVG(drawn)
    for axis, (name, title) in zip(
        drawn.subplots(1, 2, sharey=True), PICTURED.items(), strict=True
    ):
        for y, (condition, row) in enumerate(conditions.items()):
            value = row[name]
            middle = value["value"]
            if middle is None:
                continue
            ends = [max(middle - value["low"], 0), max(value["high"] - middle, 0)]
            axis.barh(y, middle, color=CHOSEN if condition == card["chosen"] else OTHER)
            axis.errorbar(middle, y, xerr=[[ends[0]], [ends[1]]], color="black", capsize=3)
        axis.axvline(card["knows"]["chance"], color="gray", linestyle="--", linewidth=1)
        axis.set(xlim=(0, 1.02), title=title, xlabel="share of questions (dashed: chance)")
        axis.set_yticks(range(len(conditions)), list(conditions))
    drawn.axes[0].invert_yaxis()
    return drawn
