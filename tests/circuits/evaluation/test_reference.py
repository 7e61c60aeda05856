"""AUROC from its definition, and shares of a circuit against a reference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.evaluation.reference import agreement, area_under_roc, auroc
from patching.anatomy import Anatomy
from patching.scores import Scores
from tasks.errors import SiteError

ANATOMY = Anatomy(n_layers=1, n_heads=1, n_kv_heads=1, d_model=4, d_head=4, d_mlp=8)


def scored(**values):
    names = tuple(values)
    return Scores(
        names, np.array(list(values.values())), 1, "edge", "m", "noising", "logit_diff", ANATOMY
    )


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_share_of_pairs_in_the_right_order(items):
    values, truth = np.array([v for v, _ in items], float), np.array([t for _, t in items])
    inside, outside = values[truth], values[~truth]
    found = area_under_roc(values, truth)
    if not len(inside) or not len(outside):
        assert found is None
        return
    wins = (inside[:, None] > outside) + 0.5 * (inside[:, None] == outside)
    assert found == pytest.approx(wins.mean())


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_area_of_the_curve_that_starts_at_zero(items):
    values, truth = np.array([v for v, _ in items]), np.array([t for _, t in items])
    if truth.all() or not truth.any():
        return
    cuts = [np.inf, *sorted(set(values), reverse=True)]
    true = [(values[truth] >= cut).mean() for cut in cuts]
    false = [(values[~truth] >= cut).mean() for cut in cuts]
    assert area_under_roc(values, truth) == pytest.approx(np.trapezoid(true, false))


def test_negative_edges_count_by_strength_unless_signed():
    scores = scored(**{"input->m0": -3.0, "input->logits": 1.0, "m0->logits": 2.0})
    assert auroc(scores, ["input->m0"]) == 1.0
    assert auroc(scores, ["input->m0"], absolute=False) == 0.0
    assert auroc(scores, []) is None
    with pytest.raises(SiteError, match="a0"):
        auroc(scores, ["input->a0.h0<q>"])


def test_shares():
    found = agreement(["a", "b", "c"], ["b", "c", "d", "e"])
    assert (found.both, found.circuit, found.reference) == (2, 3, 4)
    assert (found.precision, found.recall, found.jaccard) == (2 / 3, 2 / 4, 2 / 5)
    nothing = agreement([], [])
    assert (nothing.precision, nothing.recall, nothing.jaccard) == (None, None, 1.0)
    assert nothing.to_json()["auroc"] is None
