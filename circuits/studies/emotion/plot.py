"""Pictures of a study: how directions agree between layers, and what each layer contributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.results.intervals import MeanProportion
from circuits.results.pictures import SERIES, figure, literal, whiskers
from graphs.style import NEGATIVE, POSITIVE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from circuits.studies.emotion.pipeline import Study

CELLS = 160


def geometry(study: Study) -> Figure:
    """Cosines between read points (mean over labels), and between labels at the reference."""
    drawn = figure(11, 4.5)
    points, labels = drawn.subplots(1, 2)
    names = study.directions.points
    shown: dict[str, Any] = {"vmin": -1, "vmax": 1, "cmap": _signed()}
    points.imshow(study.directions.cosines, **shown)
    step = max(len(names) // 12, 1)
    points.set_yticks(range(0, len(names), step), names[::step], fontsize=7)
    points.set_xticks([])
    points.set_title("between read points", fontsize=10)
    vectors = study.reference.vectors
    image = labels.imshow(vectors @ vectors.T, **shown)
    kinds = study.directions.labels
    labels.set_xticks(range(len(kinds)), kinds, rotation=45, fontsize=8)
    labels.set_yticks(range(len(kinds)), kinds, fontsize=8)
    labels.set_title("between labels (reference)", fontsize=10)
    drawn.colorbar(image, ax=labels, label="cosine")
    return drawn


def layers(study: Study) -> Figure:
    """Probes, stability and influence, one above the other, by read point.

    The window of the reference direction is grey.
    """
    drawn = figure(9.5, 8.5)
    rows = drawn.subplots(4, 1, sharex=True, height_ratios=(3, 2, 3, 1.6))
    _probe_curves(rows[0], study)
    _stability(rows[1], study)
    _influence_curves(rows[2], study)
    _tokens(drawn, rows[3], study)
    for axes in rows[:3]:
        axes.axvspan(study.reference.first, study.reference.last, color="#eef0f2", zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    names = study.directions.points
    step = max(len(names) // 16, 1)
    rows[3].set_xticks(range(0, len(names), step), names[::step], rotation=35, ha="right")
    rows[3].set_xlim(-0.5, len(names) - 0.5)
    for axes in rows:
        axes.tick_params(labelsize=8)
    return drawn


def _probe_curves(axes: Axes, study: Study) -> None:
    for number, (name, probes) in enumerate(study.readings.conditions.items()):
        shares = [probes.share(point, -1) for point in probes.points]
        values, color = [share.value for share in shares], SERIES[number % len(SERIES)]
        # Curves of equal height are all seen: dashes that start elsewhere, over a broad first one.
        style: Any = "-" if number == 0 else (4 * number, (4, 4))
        width = 4.0 if number == 0 else 1.8
        axes.plot(values, color=color, label=literal(name), linewidth=width, linestyle=style)
        low, high = zip(*(share.interval for share in shares), strict=True)
        axes.fill_between(range(len(values)), low, high, color=color, alpha=0.15, linewidth=0)
    chance = study.readings.positions.chance
    axes.axhline(chance, color="0.4", linestyle=":", linewidth=1, label="chance")
    axes.set(ylim=(-0.03, 1.05), ylabel="probe accuracy,\nlast token")
    _legend(axes, "probes, 95 % intervals")


def _stability(axes: Axes, study: Study) -> None:
    middles = [step + 0.5 for step in range(len(study.directions.adjacent))]
    axes.plot(middles, study.directions.adjacent, marker="o", color=SERIES[0], markersize=4)
    least = study.settings.threshold
    axes.axhline(least, color="0.4", linestyle=":", linewidth=1, label=f"threshold {least:g}")
    axes.set(ylabel="cosine with the\nnext read point")
    axes.set_ylim(min(0.0, float(study.directions.adjacent.min())) - 0.03, 1.05)
    _legend(axes, "grey: reference window")


def _influence_curves(axes: Axes, study: Study) -> None:
    for number, label in enumerate(study.directions.labels):
        color = SERIES[number % len(SERIES)]
        values, limit = study.influence.mean[number], study.influence.gradient[number]
        axes.plot(values, color=color, marker="o", markersize=4, label=literal(label))
        axes.plot(limit, color=color, linestyle=":")
    axes.axhline(0, color="0.7", linewidth=0.8)
    # The first sublayers may have ten times the influence of all others.
    axes.set_yscale("symlog", linthresh=1, linscale=0.8)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("influence on the\nreference direction")
    _legend(axes, "finite doses;\ndotted: their limit")


def _tokens(drawn: Figure, axes: Axes, study: Study) -> None:
    probes = study.readings.positions
    image = axes.imshow(probes.accuracy.T, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    axes.set_yticks(range(len(probes.positions)), probes.positions)
    axes.set_ylabel("probe at token\nfrom the end")
    for (row, column), value in np.ndenumerate(probes.accuracy.T):
        if probes.accuracy.size <= CELLS:
            color = "white" if value > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", size=7, color=color)
    beside = axes.inset_axes((1.02, 0, 0.02, 1))
    drawn.colorbar(image, cax=beside, label="accuracy")
    beside.tick_params(labelsize=8)


def control(study: Study) -> Figure:
    """What every strength gave, and every condition of control at the strength chosen for it."""
    drawn = figure(12, 4.2)
    strengths, conditions = drawn.subplots(1, 2, width_ratios=(1, 1.25))
    for number, (name, row) in enumerate(study.results["strengths"].items()):
        if name == "steered_layers":
            continue
        color = SERIES[number % len(SERIES)]
        by_label = [{one["strength"]: one for one in tried} for tried in row["tried"].values()]
        shared = sorted(set.intersection(*map(set, by_label)))
        curve = [_mean([tried[strength] for tried in by_label]) for strength in shared]
        x, y = zip(*curve, strict=True)
        strengths.plot(x, y, color=color, marker=".", label=name, linewidth=1)
        best = [tried[at] for tried, at in zip(by_label, row["chosen"].values(), strict=True)]
        strengths.plot(*_mean(best), color=color, marker="D", markersize=8, alpha=0.7)
    strengths.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.05))
    strengths.set_xlabel("degenerate replies (diamond: the strengths chosen)")
    strengths.set_ylabel("replies that show the label")
    strengths.set_title("from weak to strong, on discovery prompts", fontsize=10)
    strengths.legend(fontsize=8, frameon=False)
    rows = np.arange(len(study.trials))
    _bars(conditions, rows - 0.18, [t.share for t in study.trials], SERIES[0], "show the label")
    _bars(conditions, rows + 0.18, [t.degenerate for t in study.trials], SERIES[1], "degenerate")
    conditions.set_yticks(rows, [literal(trial.name) for trial in study.trials], fontsize=8)
    conditions.invert_yaxis()
    conditions.set(xlim=(0, 1.02), xlabel="share of replies, 95 % intervals")
    conditions.set_title("on test prompts", fontsize=10)
    conditions.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.02))
    for axes in (strengths, conditions):
        axes.spines[["top", "right"]].set_visible(False)
    return drawn


def _mean(tried: Sequence[dict[str, float]]) -> tuple[float, float]:
    """Shares of degenerate replies and of hits, mean over labels."""
    x, y = (sum(one[what] for one in tried) / len(tried) for what in ("degenerate", "accuracy"))
    return x, y


def _bars(
    axes: Axes, at: np.ndarray, shares: Sequence[MeanProportion], color: str, label: str
) -> None:
    values = [share.value for share in shares]
    spread = whiskers(values, [share.interval for share in shares])
    style: dict[str, Any] = {"color": color, "label": label, "error_kw": {"linewidth": 1}}
    axes.barh(at, values, height=0.34, xerr=spread, **style)


def _legend(axes: Axes, title: str) -> None:
    axes.legend(
        title=title,
        fontsize=8,
        title_fontsize=8,
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.03),
        alignment="left",
    )


def _signed() -> Any:
    """The colours of positive and negative scores, with white between them."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("signed", [NEGATIVE, "#ffffff", POSITIVE])
