"""Agreement measures on hand-worked numbers, and their intervals."""

import numpy as np
import pytest
from scipy import stats

from circuits.validation.statistics import agreement, pearson, recall, sign_agreement, spearman


def test_correlations_are_those_of_scipy():
    generator = np.random.default_rng(0)
    a = generator.normal(size=50).round(1)
    b = (a + generator.normal(size=50)).round(1)
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_what_does_not_vary_has_no_correlation():
    assert np.isnan(pearson(np.ones(5), np.arange(5.0)))


def test_signs_are_counted_among_the_largest_quarter():
    exact = np.array([9.0, -8.0, 0.1, -0.1, 0.1, -0.1, 0.1, -0.1])
    assert sign_agreement(exact, np.where(np.abs(exact) < 1, -exact, exact)) == 1.0
    assert sign_agreement(exact, np.abs(exact)) == 0.5


def test_recall_is_of_the_strongest_tenth_but_three_at_least():
    exact = np.array([5.0, -4.0, 3.0, 0.0, 0.0, 0.0])
    assert recall(exact, np.array([1.0, -1.0, 0.0, 2.0, 0.0, 0.0])) == pytest.approx(2 / 3)


def test_an_estimate_that_is_exact_agrees_wholly():
    exact = np.random.default_rng(1).normal(size=(12, 30)) + np.arange(30)
    found = agreement(exact, 2 * exact)
    assert all(i.value == pytest.approx(1) and i.low == pytest.approx(1) for i in found.values())


def test_intervals_hold_the_value_and_come_from_the_seed():
    generator = np.random.default_rng(2)
    exact = generator.normal(size=(20, 40))
    estimate = exact + generator.normal(size=(20, 40))
    first, again = (agreement(exact, estimate, seed=3) for _ in range(2))
    assert first == again
    assert first["pearson"].low <= first["pearson"].value <= first["pearson"].high
    assert first != agreement(exact, estimate, seed=4)
