"""The race: who goes on, by the stated rule, and that what is chosen has answered everything."""

import numpy as np
import pytest

from circuits.studies.bias import race as races
from circuits.studies.bias import recipes
from circuits.studies.bias import search as edit_search
from circuits.studies.bias.race import Race, halved


@pytest.mark.parametrize(
    ("questions", "heats"),
    [
        (48, ((0, 12), (12, 24), (24, 48))),
        (100, ((0, 25), (25, 50), (50, 100))),
        (26, ((0, 12), (12, 13), (13, 26))),
        (16, ((0, 12), (12, 16))),
        (12, ((0, 12),)),
        (4, ((0, 4),)),
    ],
)
def test_heats_end_after_a_quarter_a_half_and_all_but_not_before_twelve(questions, heats):
    assert Race.of(["zero"], questions).heats == heats


def test_the_better_half_of_each_recipe_goes_on_but_four_at_the_least():
    assert [halved(n) for n in (1, 4, 5, 8, 9, 30)] == [1, 4, 4, 4, 5, 15]
    race = Race.of(["one"] * 10 + ["two"] * 3, 48)
    scores = dict(enumerate([5, 1, 4, 4, 9, 2, 4, 4, 0, 1, -7, -8, -9]))
    # The fifth best of the first recipe is one of four equals: of these the first proposed.
    assert race.onward(12, scores) == [0, 2, 3, 4, 6, 10, 11, 12]
    assert race.onward(24, {i: scores[i] for i in (0, 2, 3, 4, 6)}) == [0, 2, 3, 4]
    assert race.onward(48, scores) == []


def test_what_a_race_costs_is_said_beforehand():
    race = Race.of(["one"] * 10 + ["two"] * 3, 48)
    whole = 12 * (10 + 3) + 12 * (5 + 3) + 24 * (4 + 3)
    assert race.expected([1] * 13) == whole
    assert race.expected([7] * 13) == 7 * whole
    # Of those that go on the mean of all is expected.
    assert race.expected([2, 0] * 5 + [1] * 3) == whole


@pytest.fixture(scope="module")
def raced(biased, material, evidence):
    bench = edit_search.Bench.of(biased, material.train, material.train_others, evidence.basis)
    proposals = list(recipes.candidates(biased, evidence, [0, 1]))
    asked = []
    searched = edit_search.search(bench, proposals, lambda *at: asked.append(at))
    return bench, proposals, searched, asked


def test_who_dropped_out_was_behind_on_the_questions_of_its_heat(raced):
    bench, proposals, searched, _ = raced
    first = [edit_search.label_free(bench.answered(p, bench.items)[:12])[0] for p in proposals]
    assert searched.heats == (12, 16)
    for recipe in searched.recipes:
        trials = [
            (first[i], t) for i, t in enumerate(searched.tried) if t.candidate.recipe == recipe
        ]
        kept = [score for score, t in trials if not t.dropped]
        assert len(kept) == halved(len(trials))
        for score, trial in trials:
            if trial.dropped:
                assert score <= min(kept)
                assert trial.score == pytest.approx(score)


def test_what_is_chosen_answered_every_question(raced):
    bench, _, searched, _ = raced
    assert searched.best.gain.n == 16
    assert searched.best == bench.looked(bench.tried(searched.best.candidate))
    for recipe in searched.recipes:
        assert searched.best_of(recipe).gain.n == 16
    dropped = next(t for t in searched.tried if t.dropped)
    assert dropped.verdict == "behind others of its recipe after 12 questions"
    assert not dropped.sure
    assert set(searched.to_frame()["questions"]) == {12, 16}


def test_progress_counts_to_what_was_said_beforehand(raced):
    _, _, _, asked = raced
    seen = np.array([(done, total) for done, total, what in asked if what == edit_search.TRYING])
    assert (np.diff(seen[:, 0]) >= 0).all()
    assert len(set(seen[:, 1])) == 1
    assert seen[0, 0] == 0
    assert seen[-1, 0] < 1.3 * seen[0, 1]


def test_few_questions_are_no_race(biased, material, evidence, monkeypatch):
    monkeypatch.setattr(races, "FEWEST_QUESTIONS", 16)
    bench = edit_search.Bench.of(biased, material.train, material.train_others, evidence.basis)
    proposals = list(recipes.candidates(biased, evidence, [1]))
    searched = edit_search.search(bench, proposals, lambda *_: None)
    assert searched.heats == (16,)
    for proposal, trial in zip(proposals, searched.tried, strict=True):
        assert trial.score == bench.tried(proposal).score
