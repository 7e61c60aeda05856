"""The picture of a report card: how right every way of answering is, and how often it says A."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from circuits.results.pictures import figure, whiskers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURED = {
    "accuracy": "right answers",
    "A share, gold not A": "answers A where another is right",
}
CHOSEN, OTHER = "#0072b2", "#a9b8c6"


def draw(card: Mapping[str, Any]) -> Figure:
    """Accuracy and A share by condition, with intervals, and chance; the chosen edit stands out."""
    conditions = {
        about["condition"]: card["conditions"][about["condition"]] for about in card["about"]
    }
    drawn = figure(9, 0.45 * len(conditions) + 1.4)
    for axis, (name, title) in zip(
        drawn.subplots(1, 2, sharey=True), PICTURED.items(), strict=True
    ):
        for y, (condition, row) in enumerate(conditions.items()):
            value = row[name]
            middle = value["value"]
            if middle is None:
                continue
            axis.barh(y, middle, color=CHOSEN if condition == card["chosen"] else OTHER)
            spread = whiskers([middle], [value["interval"]])
            axis.errorbar(middle, y, xerr=spread, color="black", capsize=3)
        axis.axvline(card["knows"]["chance"], color="gray", linestyle="--", linewidth=1)
        axis.set(xlim=(0, 1.02), title=title, xlabel="share of questions (dashed: chance)")
        axis.set_yticks(range(len(conditions)), list(conditions))
    drawn.axes[0].invert_yaxis()
    return drawn
