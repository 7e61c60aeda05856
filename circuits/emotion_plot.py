"""Pictures of a study: how directions agree between layers, and what each layer contributes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.display import frame_html, picture_html, svg
from circuits.emotion_trial import Trial
from graphs.files import write_atomically
from graphs.style import NEGATIVE, POSITIVE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from circuits.emotion import Study


def study_html(found: Study) -> str:
    """Both pictures, and the share of replies that show the label by way of control."""
    return (
        picture_html(geometry(found), "cosines between directions")
        + picture_html(layers(found), "influence of every sublayer, and control")
        + frame_html(found.to_frame(), "share of replies that show the label")
    )


def draw_geometry(found: Study, path: Path) -> None:
    """Write :func:`geometry` as SVG; the same study always gives the same file."""
    write_atomically(path, svg(geometry(found)).encode())


def draw_layers(found: Study, path: Path) -> None:
    """Write :func:`layers` as SVG; the same study always gives the same file."""
    write_atomically(path, svg(layers(found)).encode())


def geometry(found: Study) -> Figure:
    """Cosines between read points (mean over labels), and between labels at the reference."""
    figure = _figure()
    points, labels = figure.subplots(1, 2)
    names = found.directions.points
    shown: dict[str, Any] = {"vmin": -1, "vmax": 1, "cmap": _signed()}
    points.imshow(found.directions.cosines, **shown)
    step = max(len(names) // 12, 1)
    points.set_yticks(range(0, len(names), step), names[::step], fontsize=7)
    points.set_xticks([])
    points.set_title("between read points", fontsize=10)
    vectors = found.reference.vectors
    image = labels.imshow(vectors @ vectors.T, **shown)
    kinds = found.directions.labels
    labels.set_xticks(range(len(kinds)), kinds, rotation=45, fontsize=8)
    labels.set_yticks(range(len(kinds)), kinds, fontsize=8)
    labels.set_title("between labels (reference)", fontsize=10)
    figure.colorbar(image, ax=labels, label="cosine")
    return figure


def layers(found: Study) -> Figure:
    """Influence of every sublayer by label, and the share of each method by label."""
    figure = _figure()
    curves, bars = figure.subplots(1, 2)
    for number, label in enumerate(found.directions.labels):
        (line,) = curves.plot(found.influence.mean[number], marker="o", label=label)
        limit = found.influence.gradient[number]
        curves.plot(limit, linestyle=":", color=line.get_color())
    names = found.directions.points
    step = max(len(names) // 8, 1)
    curves.set_xticks(range(0, len(names), step), names[::step], rotation=45, fontsize=7)
    curves.set_ylabel("influence (dotted: limit of no dose)")
    curves.legend(fontsize=7, frameon=False)
    for row, trial in enumerate(found.trials):
        _bar(bars, row, trial)
    bars.set_yticks(range(len(found.trials)), [t.name for t in found.trials], fontsize=7)
    bars.set_xlim(0, 1)
    bars.invert_yaxis()
    bars.set_xlabel("share of replies that show the label")
    return figure


def _bar(axes: Any, row: int, trial: Trial) -> None:
    value, (low, high) = trial.share.value, trial.share.interval
    spread = [[max(value - low, 0)], [max(high - value, 0)]]
    axes.barh(row, value, xerr=spread, color="#0072b2", alpha=0.7)


def _signed() -> Any:
    """The colours of positive and negative scores, with white between them."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("signed", [NEGATIVE, "#ffffff", POSITIVE])


def _figure() -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
