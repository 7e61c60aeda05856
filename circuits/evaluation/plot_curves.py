"""A picture of faithfulness curves: share recovered, and answers preferred, by size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.display import picture_html, svg, table_html
from circuits.evaluation.areas import KINDS
from circuits.evaluation.outcomes import undefined
from circuits.results.intervals import Ends
from graphs.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from circuits.evaluation.curves import Curve

STYLES = {"signed": "-", "absolute": "--"}
Point = tuple[float, float, Ends | None]


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
    names = list(dict.fromkeys(curve.name for curve in shown))
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for curve in shown:
        order, label = names.index(curve.name), _plain(f"{curve.name}, {curve.ranking}")
        # Earlier lines are wider, so that one that lies on another does not hide it.
        looks = {"color": f"C{order}", "lw": 0.4 + len(names) - order, "marker": "."}
        looks["ls"] = STYLES.get(curve.ranking, "-")
        left.plot(curve.sizes, curve.faithfulness, label=label, **looks)
        right.plot(curve.sizes, curve.preferred(), **looks)
    left.axhline(1, color="0.7", linewidth=0.8)
    left.axhline(0, color="0.7", linewidth=0.8)
    if circuit is not None:
        size, value, interval = circuit
        low, high = interval or (value, value)
        spread = [[max(value - low, 0)], [max(high - value, 0)]]
        left.errorbar([size], [value], yerr=spread, fmt="D", color="black", label="circuit")
    for axes, told in ((left, "faithfulness"), (right, "share of prompts, answer preferred")):
        axes.set(xscale="log", xlabel="edges kept", ylabel=told)
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
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
