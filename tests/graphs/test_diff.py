import pytest

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
    assert repr(diff) == "CircuitDiff(0 removed, 1 added, 3 common, Jaccard 0.75)"


def test_rank_correlation_is_spearmans():
    assert LEFT.diff(RIGHT).rank_correlation == pytest.approx(0.5)
    assert LEFT.diff(LEFT).rank_correlation == pytest.approx(1.0)
    assert LEFT.diff(circuit(("input->m0", 1.0))).rank_correlation is None


def test_frame_has_both_scores():
    frame = LEFT.diff(RIGHT).to_frame()
    assert frame.loc["m0->logits"].tolist() == ["both", 2.0, 9.0]
    assert frame.loc["m1->logits", "status"] == "right"
    assert frame.loc["m1->logits"].isna().tolist() == [False, True, False]
