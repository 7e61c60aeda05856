"""Each relaxation against what it says of itself."""

import numpy as np
import pytest
import torch

from patching.learned.relaxations import Budgets, HardConcrete, UniformWindow

KINDS = [Budgets(0.5, 0.3), HardConcrete(0.1), UniformWindow(0.01)]


def numbers(kind, n=30, seed=0):
    drawn = np.random.default_rng(seed).normal(0, 1.5, n + kind.climbed)
    return torch.tensor(drawn, dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_between_0_and_1_and_the_same_for_the_same_draw(kind):
    one, other = (kind.masks(numbers(kind), np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(one, other)
    assert len(one) == 30
    assert 0 <= float(one.min()) < float(one.max()) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_final_shares_keep_the_order_of_the_numbers(kind):
    given = numbers(kind)
    shares = kind.shares(given)
    own = given[: len(shares)]
    assert torch.equal(shares.argsort(), own.argsort())
    assert 0 < float(shares.min()) < float(shares.max()) < 1


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[1]])
def test_slopes_of_masks_are_differences_under_the_same_draw(kind):
    given, weights, step = numbers(kind), numbers(UniformWindow(0.0), seed=1), 1e-6
    leaf = given.clone().requires_grad_()
    (weights * kind.masks(leaf, np.random.default_rng(3))).sum().backward()
    for at in range(30):
        ends = []
        for sign in (1, -1):
            moved = given.clone()
            moved[at] += sign * step
            ends.append(float((weights * kind.masks(moved, np.random.default_rng(3))).sum()))
        assert float(leaf.grad[at]) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-6)


def test_a_gate_with_a_window_has_its_chance_as_mean_and_a_slope_of_1_at_it():
    """Over many draws: the mean of m is alpha, and the mean slope of m at alpha is 1."""
    kind, n = UniformWindow(0.0), 200_000
    theta = torch.full((n,), 0.7, dtype=torch.float64, requires_grad=True)
    masks = kind.masks(theta, np.random.default_rng(0))
    masks.sum().backward()
    chance = float(torch.sigmoid(torch.tensor(0.7, dtype=torch.float64)))
    # Standard errors: below 0.5 / sqrt(n), and for the slope 1/w in a share w of draws.
    assert float(masks.mean().detach()) == pytest.approx(chance, abs=5 * 0.5 / n**0.5)
    slope = float(theta.grad.mean()) / (chance * (1 - chance))
    assert slope == pytest.approx(1.0, abs=5 * (1 / (chance * (1 - chance)) / n) ** 0.5)


def test_the_share_of_hard_concrete_gates_that_are_not_shut_is_what_it_says():
    kind, n = HardConcrete(0.1), 100_000
    given = torch.cat([torch.full((n,), -0.4, dtype=torch.float64), torch.zeros(2)])
    open_ones = (kind.masks(given, np.random.default_rng(0)) > 0).double().mean()
    expected = float(kind.shares(given)[0])
    assert float(open_ones) == pytest.approx(expected, abs=5 * 0.5 / n**0.5)


def test_the_lagrangian_pulls_gates_shut_only_where_too_many_are_open():
    kind = HardConcrete(0.1)
    given = numbers(kind).requires_grad_()
    over = kind.shares(given).mean().detach() - 0.1
    slopes = torch.autograd.grad(kind.penalty(given, 1.0), [given])[0]
    assert float(slopes[-2]) == pytest.approx(float(over))
    assert float(slopes[-1]) == pytest.approx(float(over) ** 2)
    assert over > 0


def test_budgets_are_spread_as_asked():
    """Sums of the masks are the budgets: half of them below sqrt(n), or half below n / 2."""
    given = torch.zeros(400, dtype=torch.float64)
    for kind, middle in ((Budgets(0.5, 0.0), 20.0), (Budgets(0.5, 1.0), 200.0)):
        rng = np.random.default_rng(0)
        sums = [float(kind.masks(given, rng).sum()) for _ in range(400)]
        below = np.mean(np.array(sums) < middle)
        assert below == pytest.approx(0.5, abs=5 * 0.5 / 20)
