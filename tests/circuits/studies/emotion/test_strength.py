"""The rule by which strengths are chosen, on a model whose answers are known."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from circuits.studies.emotion.control import Reply
from circuits.studies.emotion.strength import FIRST, StrengthTrial, Tuning, tune
from circuits.studies.emotion.trial import JudgedReply

LABELS = ("weak", "strong", "never")
NEEDS = {"weak": 0.3, "strong": 0.9, "never": float("inf")}


@dataclass
class Pretended:
    """Shows a label from some strength on, and only repeats itself beyond 1."""

    concept = SimpleNamespace(labels=LABELS)
    seen = 0

    def judged(self, number, prompts, make):
        self.seen += len(prompts)
        label = LABELS[number]
        reply = Reply("", 5, False, repeats=make > 1)
        return [JudgedReply(label, "", make >= NEEDS[label], reply) for _ in prompts]


@pytest.fixture
def harness():
    return Pretended()


def test_the_weakest_strength_that_shows_the_label_is_chosen_for_each(harness):
    found = tune(harness, range(6), lambda strength: [strength], 1 / 32)
    weak, strong, never = found.strengths
    # Quarters of a doubling, so at most 2^(1/4) above what is needed.
    assert NEEDS["weak"] <= weak < NEEDS["weak"] * 2**0.25
    assert NEEDS["strong"] <= strong <= 1
    assert never == found.tried[2][0].strength
    assert found.at_edge == ()
    assert all(len(tried) == 14 for tried in found.tried)
    assert harness.seen == 3 * 14 * 6


def test_ranges_are_as_wide_for_every_way(harness):
    for first in FIRST.values():
        (tried, *_) = tune(harness, range(2), lambda strength: [strength], first).tried
        middle = [one for one in tried if first <= one.strength <= 128 * first]
        assert middle[-1].strength / middle[0].strength == pytest.approx(128)


def test_draws_share_the_prompts(harness):
    found = tune(harness, range(6), lambda strength: [strength] * 5, 1 / 32)
    assert harness.seen == 3 * 14 * 6
    assert found.replies == 6
    few = Pretended()
    tune(few, range(2), lambda strength: [strength] * 5, 1 / 32)
    assert few.seen == 3 * 14 * 2


def test_accuracy_counts_first_then_fluency_then_weakness():
    rows = [
        StrengthTrial(1.0, 0.8, 0.0),
        StrengthTrial(2.0, 0.9, 0.3),
        StrengthTrial(3.0, 0.9, 0.1),
        StrengthTrial(4.0, 0.9, 0.1),
    ]
    found = Tuning(("a",), (tuple(rows),), 10)
    assert found.strengths == (3.0,)
    told = found.to_json()
    assert told["chosen"] == {"a": 3.0}
    assert told["tried"]["a"][1] == {"strength": 2.0, "accuracy": 0.9, "degenerate": 0.3}


def test_the_strongest_being_best_is_said():
    rows = (StrengthTrial(1.0, 0.5, 0.0), StrengthTrial(2.0, 0.9, 0.3))
    assert Tuning(("a", "b"), (rows, rows[::-1]), 10).at_edge == ("a",)
