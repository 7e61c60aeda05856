"""A picture of faithfulness curves: share recovered, and answers preferred, by size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.areas import Interval

if TYPE_CHECKING:
    from circuits.curves import Curve

STYLES = {"signed": "-", "absolute": "--"}


def plot(
    path: Path,
    curves: Sequence[Curve],
    circuit: tuple[float, float, Interval | None] | None = None,
    title: str = "",
) -> None:
    """Write the curves as SVG; the same curves always give the same file.

    ``circuit`` is a chosen circuit's share of edges, its faithfulness and the interval of that.
    Curves whose faithfulness is undefined are left out.
    """
    import matplotlib
    from matplotlib.figure import Figure

    shown = [curve for curve in curves if curve.outcomes.defined]
    colors = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(c.name for c in shown))}
    with matplotlib.rc_context({"svg.hashsalt": "circuits", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for curve in shown:
            style = STYLES.get(curve.ranking, "-")
            color, label = colors[curve.name], f"{curve.name}, {curve.ranking}"
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
            left.legend(frameon=False)
        figure.suptitle(title.replace("$", r"\$"))
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            figure.savefig(partial, format="svg", metadata={"Date": None})
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
