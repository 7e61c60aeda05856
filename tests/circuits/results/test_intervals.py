"""Intervals against definitions and laws: the bootstrap, Wilson's, and means over draws."""

import numpy as np
import pytest

from circuits.results.intervals import (
    Estimate,
    MeanProportion,
    Proportion,
    bootstrap,
    draw,
    percent,
    percentiles,
    spelled,
    weights,
)

NAN, INF = float("nan"), float("inf")


def test_weights_are_the_share_of_each_draw_that_a_prompt_is():
    draws = draw(7, seed=1, times=50)
    shares = weights(draws)
    assert shares.tolist() == [[np.mean(row == k) for k in range(7)] for row in draws]
    assert np.array_equal(draws, draw(7, seed=1, times=50))
    assert not np.array_equal(draws, draw(7, seed=2, times=50))
    values = np.random.default_rng(0).normal(size=7)
    assert shares @ values == pytest.approx(values[draws].mean(axis=1))


def test_the_interval_of_a_mean_is_that_of_the_normal_law():
    values = np.random.default_rng(0).normal(3, 1, 400)
    found = Estimate.mean(values)
    error = values.std() / 20
    expected = values.mean() - 1.96 * error, values.mean() + 1.96 * error
    assert found.interval == pytest.approx(expected, abs=0.25 * error)
    assert found == Estimate.of(lambda rows: values[rows].mean(), 400)


def test_percentiles_are_of_what_is_defined():
    assert percentiles(np.array([NAN, NAN])) is None
    assert percentiles(np.array([[NAN, 1.0], [2.0, 3.0]])) == pytest.approx((1.05, 2.95))
    many = np.array([1.0] * 90 + [INF] * 10)
    assert percentiles(many) == (1.0, INF)
    assert bootstrap(lambda draws: np.full(len(draws), NAN), 5) is None


def test_one_prompt_has_no_spread():
    found = Estimate.mean(np.array([2.0]))
    assert (found.value, found.interval) == (2.0, None)
    assert np.isnan([found.low, found.high]).all()


def test_numbers_that_json_does_not_know_are_written_as_words():
    infinite = Estimate(INF, (0.5, INF), 9).to_json()
    assert infinite == {"value": "Infinity", "interval": [0.5, "Infinity"], "n": 9}
    assert Estimate(NAN, None, 9).to_json() == {"value": None, "interval": None, "n": 9}


def test_how_intervals_read():
    assert spelled(0.31, (0.25, 0.375)) == "0.310 [0.250, 0.375]"
    assert percent(0.31, (0.25, 0.375), " %") == "31.0 % [25.0, 37.5]"
    assert percent(0.31, None) == "31.0"


def test_one_draw_is_its_own_share():
    share = Proportion(30, 40)
    found = MeanProportion((share,))
    assert (found.value, found.n) == (0.75, 40)
    assert found.interval == pytest.approx(share.interval)
    assert found.to_json() | {"right": 30} == share.to_json()


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
