"""Bias measures against numbers worked out by hand."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import TaskError
from tasks.bias_measures import (
    accuracy,
    anchored_share,
    chosen_options,
    ckld,
    consistency,
    letter_predictions,
    letter_prior,
    recalls,
    rstd,
    without_prior,
)
from tasks.questions import Question

GOLD = np.array([0, 0, 1, 1, 2, 2, 3, 3])
PREDICTED = np.array([0, 0, 0, 1, 0, 0, 3, -1])


def test_predictions_are_over_the_whole_vocabulary():
    logits = np.array([[9.0, 1, 2, 3], [0, 1, 5, 3], [0, 1, 2, 3]])
    assert letter_predictions(logits, np.array([2, 3])).tolist() == [-1, 0, 1]


def test_shares_by_hand():
    assert accuracy(PREDICTED, GOLD) == 4 / 8
    # Of the six questions whose right letter is B, C or D, three are answered A.
    assert anchored_share(PREDICTED, GOLD) == 3 / 6
    assert anchored_share(PREDICTED, GOLD, letter=1) == 0.0
    assert recalls(PREDICTED, GOLD, 4).tolist() == [1.0, 0.5, 0.0, 0.5]


def test_rstd_by_hand():
    # Recalls 1, .5, 0, .5: mean .5, variance (.25 + 0 + .25 + 0) / 4 = .125.
    assert rstd(PREDICTED, GOLD, 4) == pytest.approx(100 * 0.125**0.5)


def test_a_letter_that_is_never_right_does_not_count_in_rstd():
    gold, predicted = np.array([1, 1, 2, 2]), np.array([1, 0, 2, 2])
    assert np.isnan(recalls(predicted, gold, 3)[0])
    assert rstd(predicted, gold, 3) == pytest.approx(25.0)


def test_ckld_by_hand():
    gold, predicted = np.array([0, 1, 0, 1]), np.array([0, 0, 0, 1])
    # p = (1/2, 1/2), q = (3/4, 1/4).
    assert ckld(predicted, gold, 2) == pytest.approx(0.5 * log(2 / 3) + 0.5 * log(2))
    assert ckld(gold, gold, 2) == 0.0


def test_ckld_is_infinite_without_a_letter_that_is_right_somewhere():
    assert ckld(np.array([0, 0]), np.array([0, 1]), 2) == float("inf")
    assert ckld(np.array([-1, -1]), np.array([0, 1]), 2) == float("inf")


def test_consistency_counts_items_that_keep_their_option():
    chosen = np.array([[2, 2, 2], [2, 2, 1], [-1, -1, -1], [0, 0, 0]])
    assert consistency(chosen) == 0.5


def test_chosen_options_follow_the_options_through_the_cyclic_orders():
    question = Question("?", ("red", "green", "blue"), 1)
    orders = [question.turned(by) for by in range(3)]
    right = np.array([[order.gold for order in orders]])
    assert chosen_options(right, 3).tolist() == [[1, 1, 1]]
    always_a = np.zeros((1, 3), dtype=int)
    assert chosen_options(always_a, 3).tolist() == [[0, 2, 1]]
    assert [order.options[0] for order in orders] == ["red", "blue", "green"]
    assert chosen_options(np.array([[-1, 0, 0]]), 3).tolist() == [[-1, 2, 1]]


def test_without_prior_uncovers_what_is_beneath_a_constant_bias():
    rng = np.random.default_rng(0)
    gold = np.repeat(np.arange(4), 50)
    logits = 4.0 * np.eye(4)[gold] + 0.1 * rng.normal(size=(200, 4))
    biased = logits + np.array([9.0, 0, 0, 0])
    assert (biased.argmax(axis=1) == 0).all()
    assert (without_prior(biased).argmax(axis=1) == gold).all()
    given_prior = without_prior(biased[gold == 2], letter_prior(biased))
    assert (given_prior.argmax(axis=1) == 2).all()


@given(shift=st.floats(-30, 30))
def test_without_prior_ignores_what_all_letters_share(shift):
    logits = np.random.default_rng(1).normal(size=(12, 4))
    np.testing.assert_allclose(without_prior(logits + shift), without_prior(logits), atol=1e-9)


def test_the_prior_is_a_mean_of_log_probabilities():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]))
    expected = np.log([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]).mean(axis=0)
    np.testing.assert_allclose(letter_prior(logits), expected)


@pytest.mark.parametrize(
    ("predicted", "gold"),
    [([0, 1], [0]), ([], []), ([5], [0]), ([0], [-1]), ([-2], [0])],
)
def test_what_does_not_fit_is_refused(predicted, gold):
    with pytest.raises(TaskError, match=r"question|counted"):
        recalls(np.array(predicted, dtype=int), np.array(gold, dtype=int), 4)


def test_the_anchored_share_needs_other_right_letters():
    with pytest.raises(TaskError, match="the share needs others"):
        anchored_share(np.array([0, 0]), np.array([0, 0]))


def test_odd_shapes_are_refused():
    with pytest.raises(TaskError, match=r"\[items, orders\]"):
        consistency(np.array([1, 2]))
    with pytest.raises(TaskError, match=r"\[n, letters\]"):
        without_prior(np.zeros(3))
