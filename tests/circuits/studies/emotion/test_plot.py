"""Pictures show every curve and every condition of control, and are always the same bytes."""

import pytest

from circuits.results.pictures import save
from circuits.studies.emotion.plot import control, geometry, layers
from tests import tiny_emotion


@pytest.fixture(scope="module")
def found():
    return tiny_emotion.found()


def labelled(axes):
    return [line.get_label() for line in axes.lines if not line.get_label().startswith("_")]


def test_layers_show_probes_stability_and_influence_together(found):
    probes, stability, influence, tokens = layers(found).axes[:4]
    assert labelled(probes) == [*found.readings.conditions, "chance"]
    points = len(found.directions.points)
    assert all(len(line.get_xdata()) == points for line in probes.lines[:-1])
    for line, reading in zip(probes.lines[:-1], found.readings.conditions.values(), strict=True):
        assert list(line.get_ydata()) == list(reading.accuracy[:, 0])
    assert list(stability.lines[0].get_ydata()) == list(found.directions.adjacent)
    assert labelled(influence) == ["calm", r"\$x<b>"]
    limits = [line for line in influence.lines if line.get_linestyle() == ":"]
    assert len(limits) == 2
    assert tokens.images[0].get_array().shape == (len(found.readings.positions.positions), points)


def test_control_shows_every_way_with_its_degenerate_replies(found):
    strengths, conditions = control(found).axes
    names = [text.get_text() for text in conditions.get_yticklabels()]
    assert names == [trial.name for trial in found.trials]
    assert [len(bars) for bars in conditions.containers if hasattr(bars, "patches")] == [9, 9]
    widths = [bar.get_width() for bar in conditions.containers[1].patches]
    assert widths == [trial.share.value for trial in found.trials]
    diamonds = [line for line in strengths.lines if line.get_marker() == "D"]
    assert len(diamonds) == len(found.results["strengths"]) - 1


def test_geometry_shows_points_and_labels(found):
    points, labels = geometry(found).axes[:2]
    assert points.images[0].get_array().shape == (4, 4)
    assert labels.images[0].get_array().shape == (2, 2)


@pytest.mark.parametrize("draw", [control, geometry, layers])
def test_the_same_study_gives_the_same_file(found, draw, tmp_path):
    for name in ("a.svg", "b.svg"):
        save(draw(found), tmp_path / name)
    first = (tmp_path / "a.svg").read_bytes()
    assert first == (tmp_path / "b.svg").read_bytes()
    assert first.rstrip().endswith(b"</svg>")
    assert b"<b>" not in first
