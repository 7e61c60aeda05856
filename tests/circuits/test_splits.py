"""Splits keep groups whole; those that cannot be made say everything that is wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.splits import Split
from tasks.errors import TaskError


def rng(seed=0):
    return np.random.default_rng(seed)


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(st.integers(2, 9), st.floats(0.05, 0.95), st.integers(0, 99))
def test_no_group_is_on_both_sides(groups, share, seed):
    names = [str(number) for number in range(groups) for _ in range(4)]
    split = Split.of(list("xyxy") * groups, names, share, rng(seed))
    by_group = split.test.reshape(groups, 4)
    assert (by_group.all(1) | ~by_group.any(1)).all()
    assert 0 < by_group[:, 0].sum() < groups


def test_without_groups_prompts_are_drawn_one_by_one():
    split = Split.of(list("xy") * 20, None, 0.25, rng())
    assert split.test.sum() == 10
    assert split.labels == ("x", "y")
    assert split.numbers[:4].tolist() == [0, 1, 0, 1]


def test_shuffling_leaves_the_prompts_to_test_on():
    split = Split.of(list("xyz") * 20, None, 0.5, rng())
    mixed = split.shuffled(rng())
    assert (mixed.numbers[split.test] == split.numbers[split.test]).all()
    assert (mixed.numbers != split.numbers).any()
    counts = [np.bincount(s.numbers[~s.test]).tolist() for s in (split, mixed)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("labels", "groups", "held_out", "told"),
    [
        ("xy", "aab", 0.5, "3 groups for 2 labels"),
        ("xyxy", "aabb", 1.0, "held_out is 1.0 of 2 groups"),
        ("xyxy", "aaaa", 0.5, "of 1 groups; give a share between 0 and 1, and at least two"),
        ("xxxx", "aabb", 0.5, "there is only one label"),
        ("xyxy", "aabb", [True], "held_out has 1 entries for 4 prompts"),
        (
            "xyxy",
            "aabb",
            [True, False, True, False],
            "no prompt to fit on has label x\n.*to test on has label y\n.*both sides: a, b",
        ),
    ],
)
def test_prompts_that_cannot_be_split(labels, groups, held_out, told):
    with pytest.raises(TaskError, match=told):
        Split.of(list(labels), list(groups), held_out, rng())
