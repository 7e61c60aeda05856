"""Shares and their means over draws lie in intervals that say what they leave open."""

import pytest

from circuits.proportions import MeanProportion, Proportion


def test_one_draw_is_its_own_share():
    share = Proportion(30, 40)
    found = MeanProportion((share,))
    assert (found.value, found.n) == (0.75, 40)
    assert found.interval == pytest.approx(share.interval)
    assert "draws" not in found.to_json()


def test_more_draws_of_the_same_say_nothing_more_about_the_cases():
    assert MeanProportion((Proportion(30, 40),) * 5).interval == pytest.approx(
        Proportion(30, 40).interval
    )


def test_draws_that_differ_widen_the_interval():
    found = MeanProportion((Proportion(10, 40), Proportion(30, 40), Proportion(20, 40)))
    assert found.value == pytest.approx(0.5)
    # Student's t for two degrees of freedom is 4.303; the standard error is .25 / sqrt(3).
    assert found.interval == pytest.approx((0.0, 1.0))
    close = MeanProportion((Proportion(100, 400), Proportion(120, 400)))
    assert close.interval[1] == pytest.approx(0.275 + 12.706 * 0.025, abs=1e-3)
    assert found.to_json()["draws"] == [0.25, 0.75, 0.5]


def test_all_right_leaves_something_open():
    low, high = MeanProportion((Proportion(40, 40),) * 5).interval
    assert 0.9 < low < 1
    assert high == pytest.approx(1)
