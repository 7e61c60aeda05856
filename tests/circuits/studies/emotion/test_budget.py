"""The budget worked out by hand, and what holds for every budget."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.studies.emotion.budget import share_out
from tasks.errors import MethodError


@pytest.mark.parametrize(
    ("influence", "total", "options", "expected"),
    [
        # 10 by 1 : 2 : 2 is 2, 4, 4 exactly.
        ([1, 2, 2], 10, {"largest_share": 1.0}, (2, 4, 4)),
        # Floors take 6; 7 by 1 : 1 : 5 is 1, 1, 5.
        ([1, 1, 5], 13, {"floor": 2, "largest_share": 1.0}, (3, 3, 7)),
        # Negative influence counts as none: 8 by 0 : 1 : 3.
        ([-4, 1, 3], 8, {"largest_share": 1.0}, (0, 2, 6)),
        # 10 by 1 : 1 : 1 : 3 is 1.67 three times and 5; 1+1+1+5 leaves 2 for equal remainders.
        ([1, 1, 1, 3], 10, {"largest_share": 1.0}, (2, 2, 1, 5)),
        # 7 by 5 : 3 : 2 is 3.5, 2.1, 1.4; the one left goes to the remainder of .5.
        ([5, 3, 2], 7, {"largest_share": 1.0}, (4, 2, 1)),
        # Quotas 0, 2, 8; no more than 4 beyond the floor; 4 are left for the next largest quota,
        # which may take 2 more, and then the first.
        ([0, 1, 4], 10, {}, (2, 4, 4)),
        # At most 5 a layer: 12 by 9 : 2 : 1 is 9, 2, 1; the 4 cut off go to the second (3), third.
        ([9, 2, 1], 12, {"most": 5, "largest_share": 1.0}, (5, 5, 2)),
        # Two layers cannot hold 10 in shares of 4 each: the rest goes to the larger one.
        ([1, 3], 10, {}, (4, 6)),
        # Nobody has influence: evenly, the first ones get what is left over.
        ([0, -1, 0], 8, {"largest_share": 1.0}, (3, 3, 2)),
        ([1.0], 3, {}, (3,)),
        ([2, 1], 0, {}, (0, 0)),
    ],
)
def test_worked_by_hand(influence, total, options, expected):
    assert share_out(influence, total, **options) == expected


@st.composite
def budgets(draw):
    influence = draw(st.lists(st.floats(-10, 1e6), min_size=1, max_size=12))
    floor = draw(st.integers(0, 4))
    most = draw(st.integers(floor, 40))
    total = draw(st.integers(floor * len(influence), most * len(influence)))
    share = draw(st.floats(0.05, 1))
    return influence, total, floor, most, share


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(budgets())
def test_it_sums_to_the_budget_between_floor_and_cap(case):
    influence, total, floor, most, share = case
    found = share_out(influence, total, floor=floor, most=most, largest_share=share)
    assert sum(found) == total
    assert all(floor <= count <= most for count in found)
    allowed = floor + int(share * total)
    if len(influence) * min(allowed, most) >= total:
        assert max(found) <= allowed


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(budgets())
def test_with_room_for_all_every_layer_is_within_one_of_its_quota(case):
    influence, total, floor, _, _ = case
    found = share_out(influence, total, floor=floor, largest_share=1.0)
    rest = total - floor * len(influence)
    weights = [max(value, 0.0) for value in influence]
    weights = weights if any(weights) else [1.0] * len(weights)
    quotas = [floor + rest * (value / sum(weights)) for value in weights]
    assert all(abs(count - quota) <= 1 + 1e-6 for count, quota in zip(found, quotas, strict=True))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (([1, 1, 1], 5, 2, None, 0.4), "3 layers with a floor of 2 need at least 6"),
        (([1, 1], 9, 0, 4, 0.4), "2 layers of at most 4 hold no more than 8"),
        (([1, float("nan")], 4, 0, None, 0.4), "the influence of layer 1 is nan"),
        (([], 4, 0, None, 0.4), "no layer"),
        (([1], -1, 0, None, 0.4), "must not be negative"),
        (([1, 1], 4, 3, 2, 0.0), "largest share is 0.0.*need at least 6.*floor 3 is above"),
    ],
)
def test_budgets_that_cannot_be_shared_out(arguments, told):
    influence, total, floor, most, share = arguments
    with pytest.raises(MethodError, match=told):
        share_out(influence, total, floor=floor, most=most, largest_share=share)
