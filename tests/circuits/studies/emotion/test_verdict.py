"""Claims about conditions of control: differences by definition, intervals over what is drawn."""

import itertools

import numpy as np
import pytest

from circuits.studies.emotion.control import Reply
from circuits.studies.emotion.text import claims_table
from circuits.studies.emotion.trial import JudgedReply, Trial
from circuits.studies.emotion.verdict import CLAIMS, Claim, claims, difference

FINE = Reply("fine", 5, True, False)


def test_hits_are_by_draw_label_and_group():
    hit = {("calm", 0): (True, False), ("calm", 1): (True, True), ("wild", 0): (False, False)}
    draws = tuple(
        tuple(
            JudgedReply(label, "up", hit.get((label, draw), (False, True))[group], FINE)
            for label, group in itertools.product(("calm", "wild"), range(2))
        )
        for draw in range(2)
    )
    expected = [[[1, 0], [0, 0]], [[1, 1], [0, 1]]]
    assert Trial("random components", draws).hits.tolist() == expected


def test_the_interval_is_that_of_resampled_groups_and_draws():
    rng = np.random.default_rng(0)
    one = (rng.random((1, 3, 30)) < 0.8).astype(float)
    other = (rng.random((4, 3, 30)) < 0.4).astype(float)
    value, (low, high) = difference(one, other)
    assert value == pytest.approx(100 * (one.mean() - other.mean()))
    found = []
    for _ in range(3000):
        groups, draws = rng.integers(30, size=30), rng.integers(4, size=4)
        found.append(100 * (one[:, :, groups].mean() - other[draws][:, :, groups].mean()))
    expected = np.quantile(found, [0.025, 0.975])
    assert (low, high) == pytest.approx(expected.tolist(), abs=1.5)


def test_equal_ways_differ_by_nothing_on_any_draw_of_prompts():
    """The groups are the same ones for both: an interval that is not paired would be wide."""
    hits = (np.random.default_rng(1).random((1, 2, 12)) < 0.5).astype(float)
    assert difference(hits, hits) == (0.0, (0.0, 0.0))


def test_labels_of_a_group_are_drawn_together():
    """Six labels that all hit in the same groups say no more than one of them."""
    one = np.zeros((1, 1, 40))
    one[:, :, :20] = 1
    wide = difference(one, np.zeros_like(one))[1]
    assert difference(np.repeat(one, 6, axis=1), np.zeros((1, 6, 40)))[1] == pytest.approx(wide)


@pytest.mark.parametrize(
    ("limit", "value", "interval", "holds", "sure"),
    [
        ("at least", 0.0, (0.0, 0.0), True, True),
        ("at least", -0.1, (-1.0, 1.0), False, False),
        ("above", 0.0, (0.0, 0.0), False, True),
        ("above", 2.0, (1.0, 3.0), True, True),
        ("at most", 1.0, (-1.0, 3.0), False, False),
        ("at most", -2.0, (-3.0, -1.0), True, True),
    ],
)
def test_a_claim_holds_by_its_value_and_is_sure_by_its_interval(
    limit, value, interval, holds, sure
):
    claim = Claim("something", value, interval, limit, 0.0)
    assert (claim.holds, claim.sure) == (holds, sure)
    ((*_, verdict),) = claims_table([claim.to_json()]).rows
    assert ("NO" in verdict, "not for sure" in verdict) == (not holds, not sure)


def trial(name, share):
    hits = np.arange(10) < share * 10
    return Trial(name, (tuple(JudgedReply("calm", "up", bool(hit), FINE) for hit in hits),))


def test_every_claim_is_of_two_ways():
    shares = {
        "circuit": 0.9,
        "steering": 0.8,
        "prompting": 1.0,
        "random components": 0.2,
        "prompting, circuit ablated": 0.1,
        "prompting, random components ablated": 0.9,
    }
    found = claims([trial(name, share) for name, share in shares.items()])
    assert [claim.name for claim in found] == [row[0] for row in CLAIMS]
    assert [claim.value for claim in found] == pytest.approx([10, -10, 70, 90, 10])
    assert [claim.holds for claim in found] == [True, False, True, True, False]
