"""Areas against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.evaluation.areas import area, faithfulness
from circuits.evaluation.curves import SIZES


def test_the_areas_of_mib_by_hand():
    # Two trapezoids: .5 to .75 between heights 0 and 1, .75 to 1 between 1 and 1.
    sizes, f = (0.5, 0.75, 1.0), np.array([0.0, 1.0, 1.0])
    assert area(sizes, f, "cpr") == pytest.approx(0.125 + 0.25)
    assert area(sizes, f, "cmd") == pytest.approx(0.125)


def test_on_the_log_axis_every_decade_counts_alike():
    sizes, f = (0.01, 0.1, 1.0), np.array([0.0, 1.0, 1.0])
    assert area(sizes, f, "log_cpr") == pytest.approx(0.75)
    assert area(sizes, f, "log_cmd") == pytest.approx(0.25)


def test_a_perfect_curve():
    ones = np.ones(len(SIZES))
    assert area(SIZES, ones, "cpr") == pytest.approx(0.999)
    assert area(SIZES, ones, "log_cpr") == pytest.approx(1)
    assert area(SIZES, ones, "cmd") == area(SIZES, ones, "log_cmd") == 0


def test_the_last_half_of_the_edges_is_half_of_the_weight():
    only_all = np.zeros(len(SIZES))
    only_all[-1] = 1.0
    assert area(SIZES, only_all, "cpr") == pytest.approx(0.25)
    assert area(SIZES, only_all, "log_cpr") == pytest.approx(np.log10(2) / 2 / 3)


def test_overshoot_raises_cpr_and_counts_against_cmd():
    over = np.full(len(SIZES), 1.5)
    assert area(SIZES, over, "cpr") == pytest.approx(1.5 * 0.999)
    assert area(SIZES, over, "cmd") == pytest.approx(0.5 * 0.999)


@given(st.lists(st.floats(-3, 3), min_size=len(SIZES), max_size=len(SIZES)))
def test_many_curves_at_once_are_the_curves_one_by_one(heights):
    f = np.array([heights, heights[::-1]])
    for kind in ("cpr", "cmd", "log_cpr", "log_cmd"):
        assert area(SIZES, f, kind) == pytest.approx([area(SIZES, row, kind) for row in f])


def test_faithfulness_is_undefined_where_nothing_is_to_be_recovered():
    assert faithfulness(np.array(2.0), np.array(-2.0), np.array(1.0)) == pytest.approx(0.75)
    assert np.isnan(faithfulness(np.array(2.0), np.array(2.0), np.array(1.0)))
