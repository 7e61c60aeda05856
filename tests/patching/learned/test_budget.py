"""Masks of a budget, against the definition and against differences."""

import numpy as np
import pytest
import torch

from patching.learned.budget import masks_of, threshold


def scores(n=40, seed=0, spread=3.0):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(n, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("budget", [0.01, 1.0, 7.3, 39.9])
def test_masks_add_up_to_the_budget_and_keep_the_order(budget, temperature):
    drawn = scores()
    masks = masks_of(drawn, budget, temperature)
    assert float(masks.sum()) == pytest.approx(budget, rel=1e-9)
    tau = threshold(drawn, budget, temperature)
    wanted = 1 / (1 + np.exp(-(drawn.numpy() - tau) / temperature))
    np.testing.assert_allclose(masks.numpy(), wanted, rtol=1e-9)


def test_equal_scores_share_the_budget_equally():
    np.testing.assert_allclose(masks_of(torch.zeros(8), 2.0, 0.5), 0.25, rtol=1e-6)


@pytest.mark.parametrize("budget", [1.0, 7.3, 39.0])
def test_the_gradient_is_that_of_solving_for_the_threshold_again(budget):
    """Differences of the whole map from scores to masks, its threshold found anew each time."""
    start, weights, step = scores(spread=1.0), scores(seed=1), 1e-5
    leaf = start.clone().requires_grad_()
    (weights * masks_of(leaf, budget, 0.5)).sum().backward()
    assert abs(float(leaf.grad.sum())) < 1e-12
    for at in range(len(start)):
        ends = []
        for sign in (1, -1):
            moved = start.clone()
            moved[at] += sign * step
            ends.append(float((weights * masks_of(moved, budget, 0.5)).sum()))
        difference = (ends[0] - ends[1]) / (2 * step)
        assert float(leaf.grad[at]) == pytest.approx(difference, rel=1e-6, abs=1e-8)


def test_the_gradient_is_autograds_through_unrolled_newton_steps():
    start, weights = scores(spread=1.0), scores(seed=1)
    given, unrolled = (start.clone().requires_grad_() for _ in range(2))
    (weights * masks_of(given, 7.3, 0.5)).sum().backward()
    tau = torch.tensor(threshold(start, 7.3, 0.5) + 0.05, dtype=torch.float64)
    for _ in range(20):
        masks = torch.sigmoid((unrolled - tau) / 0.5)
        tau = tau + (masks.sum() - 7.3) / (masks * (1 - masks)).sum() * 0.5
    (weights * torch.sigmoid((unrolled - tau) / 0.5)).sum().backward()
    np.testing.assert_allclose(given.grad, unrolled.grad, rtol=1e-9, atol=1e-12)


def test_masks_that_are_all_decided_get_no_gradient():
    leaf = torch.tensor([-1e4, 1e4, 1e4], dtype=torch.float64, requires_grad=True)
    masks_of(leaf, 2.0, 0.5).sum().backward()
    assert torch.isfinite(leaf.grad).all()
