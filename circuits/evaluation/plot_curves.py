"""A picture of faithfulness curves: share recovered, and answers preferred, by size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from circuits.evaluation.areas import KINDS
from circuits.evaluation.outcomes import undefined
from circuits.results.intervals import Ends, spelled
from circuits.results.pictures import figure, literal, whiskers
from circuits.results.report import Picture, Report
from circuits.results.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from circuits.evaluation.curves import Curve

STYLES = {"signed": "-", "absolute": "--"}
CURVES = "faithfulness by share of edges kept"
Point = tuple[float, float, Ends | None]


def draw(curves: Sequence[Curve], circuit: Point | None = None, title: str = "") -> Figure:
    """The curves; those whose faithfulness is undefined are left out.

    ``circuit`` is a chosen circuit's share of edges, its faithfulness and the interval of that.
    """
    shown = [curve for curve in curves if curve.outcomes.defined]
    names = list(dict.fromkeys(curve.name for curve in shown))
    drawn = figure(9, 4)
    left, right = drawn.subplots(1, 2)
    for curve in shown:
        order, label = names.index(curve.name), literal(f"{curve.name}, {curve.ranking}")
        # Earlier lines are wider, so that one that lies on another does not hide it.
        looks = {"color": f"C{order}", "lw": 0.4 + len(names) - order, "marker": "."}
        looks["ls"] = STYLES.get(curve.ranking, "-")
        left.plot(curve.sizes, curve.faithfulness, label=label, **looks)
        right.plot(curve.sizes, curve.preferred(), **looks)
    left.axhline(1, color="0.7", linewidth=0.8)
    left.axhline(0, color="0.7", linewidth=0.8)
    if circuit is not None:
        size, value, interval = circuit
        spread = whiskers([value], [interval])
        left.errorbar([size], [value], yerr=spread, fmt="D", color="black", label="circuit")
    for axes, label in ((left, "faithfulness"), (right, "share of prompts, answer preferred")):
        axes.set(xscale="log", xlabel="edges kept", ylabel=label)
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    right.set_ylim(-0.02, 1.02)
    if shown or circuit:
        drawn.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    drawn.suptitle(literal(title))
    return drawn


def curves_report(curves: Sequence[Curve], circuit: Point | None = None) -> Report:
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
    table = Table(["ranking", *KINDS], areas)
    if not known:
        return Report.of(table)
    return Report.of(Picture(lambda: draw(known, circuit), CURVES), table)


def curve_tables(curves: Sequence[Curve], seed: int) -> list[Table]:
    """Areas of every curve with their intervals, then faithfulness at every size; none of none."""
    if not curves:
        return []
    names = [f"{curve.name}, {curve.ranking}" for curve in curves]
    sizes = [f"{100 * size:g} %" for size in curves[0].sizes]
    areas = [[_area(curve, kind, seed) for kind in KINDS] for curve in curves]
    return [
        Table([title, *head], [[name, *cells] for name, cells in zip(names, rows, strict=True)])
        for title, head, rows in (
            ("ranking", ["CPR", "CMD", "log CPR", "log CMD"], areas),
            ("faithfulness at", sizes, [_hundredths(curve.faithfulness) for curve in curves]),
            ("answer preferred at", sizes, [_hundredths(curve.preferred()) for curve in curves]),
        )
    ]


def _area(curve: Curve, kind: str, seed: int) -> str:
    value = curve.area(kind)
    return "undefined" if value is None else spelled(value, curve.interval(kind, seed))


def _hundredths(shares: Iterable[float]) -> list[str]:
    return [f"{share:.2f}" for share in shares]
