"""A picture of faithfulness curves: share recovered, and answers preferred, by size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.display import picture_html, svg, table_html
from circuits.evaluation.areas import KINDS, Interval
from circuits.evaluation.outcomes import undefined
from graphs.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from circuits.evaluation.curves import Curve

STYLES = {"signed": "-", "absolute": "--"}
Point = tuple[float, float, Interval | None]


def plot(
    path: Path, curves: Sequence[Curve], circuit: Point | None = None, title: str = ""
) -> None:
    """Write :func:`draw` as SVG; the same curves always give the same file."""
    write_atomically(path, svg(draw(curves, circuit, title)).encode())


def draw(curves: Sequence[Curve], circuit: Point | None = None, title: str = "") -> Figure:
    """The curves; those whose faithfulness is undefined are left out.

    ``circuit`` is a chosen circuit's share of edges, its faithfulness and the interval of that.
    """
    from matplotlib.figure import Figure

    shown = [curve for curve in curves if curve.outcomes.defined]
    colors = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(c.name for c in shown))}
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for curve in shown:
        style = STYLES.get(curve.ranking, "-")
        color, label = colors[curve.name], _plain(f"{curve.name}, {curve.ranking}")
        left.plot(curve.sizes, curve.faithfulness, style, color=color, label=label, marker=".")
        right.plot(curve.sizes, curve.preferred(), style, color=color, marker=".")
    left.axhline(1, color="0.7", linewidth=0.8)
    left.axhline(0, color="0.7", linewidth=0.8)
    if circuit is not None:
        size, value, interval = circuit
        low, high = interval or (value, value)
        spread = [[max(value - low, 0)], [max(high - value, 0)]]
        left.errorbar([size], [value], yerr=spread, fmt="D", color="black", label="circuit")
    left.set(xscale="log", xlabel="share of edges kept", ylabel="faithfulness")
    right.set(xscale="log", xlabel="share of edges kept", ylabel="answer preferred")
    right.set_ylim(-0.02, 1.02)
    if shown or circuit:
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(_plain(title))
    return figure


def curves_html(curves: Sequence[Curve], circuit: Point | None = None) -> str:
    """The picture of curves, and their areas as a table."""
    known = [curve for curve in curves if curve.outcomes.defined]
    areas = [
        [f"{curve.name}, {curve.ranking}", *(f"{curve.area(kind):.3f}" for kind in KINDS)]
        for curve in known
    ]
    areas += [
        [f"{curve.name}, {curve.ranking}", undefined(curve.outcomes), *[""] * (len(KINDS) - 1)]
        for curve in curves
        if curve not in known
    ]
    table = table_html(["ranking", *KINDS], areas)
    if not known:
        return table
    return picture_html(draw(known, circuit), "faithfulness by share of edges kept") + table


def _plain(text: str) -> str:
    """Text in which nothing is taken for a formula."""
    return text.replace("$", r"\$")
