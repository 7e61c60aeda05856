import xml.etree.ElementTree as ET

import pytest

from graphs import style
from tasks.errors import FormatError
from tests.graphs.strategies import circuit

LEFT = circuit(("input->m0", 1.0), ("m0->logits", 2.0), ("input->logits", 3.0))
RIGHT = circuit(
    ("input->m0", 5.0), ("m0->logits", 9.0), ("input->logits", 7.0), ("m1->logits", 1.0)
)


def test_what_changed():
    diff = LEFT.diff(RIGHT)
    assert (diff.removed.edges, diff.added.edges) == ((), ("m1->logits",))
    assert diff.common["input->m0"] == 1.0
    assert diff.jaccard == 0.75
    assert repr(diff) == "CircuitDiff(0 only left, 1 only right, 3 in both, Jaccard 0.75)"


def test_rank_correlation_is_spearmans():
    assert LEFT.diff(RIGHT).rank_correlation == pytest.approx(0.5)
    assert LEFT.diff(LEFT).rank_correlation == pytest.approx(1.0)
    assert LEFT.diff(circuit(("input->m0", 1.0))).rank_correlation is None


def test_frame_has_both_scores():
    frame = LEFT.diff(RIGHT).to_frame()
    assert frame.loc["m0->logits"].tolist() == ["both", 2.0, 9.0]
    assert frame.loc["m1->logits", "status"] == "right"
    assert frame.loc["m1->logits"].isna().tolist() == [False, True, False]


def strokes(svg):
    """Colour and dashes of the edges in a picture, by title."""
    space = "{http://www.w3.org/2000/svg}"
    found = {}
    for group in ET.fromstring(svg).iter(f"{space}g"):
        title, path = group.find(f"{space}title"), group.find(f"{space}path")
        if title is not None and path is not None:
            found[title.text] = (path.get("stroke"), "stroke-dasharray" in path.attrib)
    return found


def test_the_picture_tells_what_is_where():
    one = circuit(("input->m0", -1.0), ("input->logits", 1.0))
    other = circuit(("input->logits", 1.0), ("m1->logits", -1.0))
    bundle = one.diff(other)._repr_mimebundle_()
    assert strokes(bundle["image/svg+xml"]) == {
        "input->m0  \u22121": (style.NEGATIVE, True),
        "m1->logits  \u22121": (style.POSITIVE, False),
        "input->logits  1": (style.PALE_INK, False),
    }
    assert "1 only left, 1 only right, 1 in both" in bundle["image/svg+xml"]
    assert bundle["text/plain"] == repr(one.diff(other))


@pytest.mark.parametrize("form", ["svg", "png", "pdf", "dot"])
def test_differences_are_drawn_to_files(tmp_path, form):
    LEFT.diff(RIGHT).draw(tmp_path / f"diff.{form}")
    assert (tmp_path / f"diff.{form}").stat().st_size > 500
    with pytest.raises(FormatError, match="unknown picture format"):
        LEFT.diff(RIGHT).draw(tmp_path / "diff.gif")
