"""Recipes: what an edit of strength 1 takes out, and the two searches against slow definitions."""

import dataclasses

import numpy as np
import pytest
import torch

from circuits.edits import edit as e
from circuits.edits.live import editing
from circuits.studies.bias import mitigate, race, recipes, unibias
from circuits.studies.bias import search as edit_search
from circuits.studies.bias.answers import Answers, answer, start_at
from circuits.studies.bias.controls import random_changes, random_moves
from circuits.studies.bias.other_tasks import OtherStarts, Sideways, Stops, look
from patching.weights import changed_weights, value_vectors
from tasks.errors import TaskError


@torch.no_grad()
def moved(model, evidence, candidate):
    """By how much a candidate moves A above the mean letter, the norm's scale held fixed."""
    layer = candidate.layer
    before = value_vectors(model, layer).clone()
    with editing(model, candidate.edits, evidence.basis):
        change = value_vectors(model, layer) - before
    wrote = evidence.post[layer].mean(0) @ change
    toward = evidence.directions[0] - evidence.directions.mean(0)
    return float(wrote @ toward) / evidence.norms


def excess(evidence):
    """What the letters' prior holds A above the mean letter."""
    return float(evidence.prior[0] - evidence.prior.mean())


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("recipe", ["suppress A", "A to mean"])
def test_at_strength_one_the_prior_s_excess_is_taken_out(biased, evidence, recipe, strength):
    for candidate in recipes.candidates(biased, evidence, [0, 1]):
        if (candidate.recipe, candidate.strength) == (recipe, strength):
            assert moved(biased, evidence, candidate) == pytest.approx(
                -strength * excess(evidence), rel=1e-3
            )


def test_least_squares_lowers_each_letter_by_its_prior(biased, evidence):
    for candidate in recipes.least_squares(evidence, 1):
        before = value_vectors(biased, 1).clone()
        with editing(biased, candidate.edits, evidence.basis):
            change = (value_vectors(biased, 1) - before).detach()
        letters = evidence.directions @ (evidence.post[1].mean(0) @ change) / evidence.norms
        wanted = -candidate.strength * evidence.prior
        assert letters.numpy() == pytest.approx(wanted, abs=1e-3)


def test_least_squares_moves_other_keys_least_of_all_that_do_the_same(evidence):
    (edit,) = next(recipes.least_squares(evidence, 1)).edits
    keys, key, moment = torch.tensor(edit.keys), evidence.post[1].mean(0), evidence.keys[1]
    ridge = recipes.RIDGE * moment.diagonal().mean() * torch.eye(len(key))
    cost = keys @ (moment + ridge) @ keys
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = keys + 0.1 * keys.norm() * torch.randn(len(key), generator=generator)
        other = other / (other @ key)
        assert float(other @ (moment + ridge) @ other) >= float(cost)


def test_projecting_out_leaves_nothing_along_the_letter(biased, evidence):
    toward = evidence.directions[0] - evidence.directions.mean(0)
    for candidate in recipes.candidates(biased, evidence, [1]):
        if candidate.recipe != "project out":
            continue
        rows = [int(place.split("n")[1]) for place in candidate.places]
        before = (value_vectors(biased, 1)[rows] @ toward).detach()
        with editing(biased, candidate.edits, evidence.basis):
            after = (value_vectors(biased, 1)[rows] @ toward).detach()
        assert torch.allclose(after, (1 - candidate.strength) * before, atol=1e-4)


def test_neurons_are_ranked_by_what_they_push_towards_a(biased, material, evidence):
    ranked = recipes.rank_neurons(biased, evidence, 1)
    assert ranked[0] == 7
    toward = evidence.directions[0] - evidence.directions.mean(0)
    rows = value_vectors(biased, 1).detach()
    pushed = [
        float((evidence.post[1][:, unit, None] * rows[unit] @ toward).mean()) for unit in ranked
    ]
    assert np.all(np.diff(pushed) <= 1e-4)


def test_unibias_vectors_pass_all_three_tests(biased, material, evidence):
    found = unibias.vector_sets(biased, material.train, evidence)
    tests = [
        (a, b, c)
        for a in unibias.PROBABILITY
        for b in unibias.BIAS
        for c in unibias.VARIATION
    ]  # fmt: skip
    letters = list(material.train.letters)
    with torch.no_grad():
        said = biased.unembed(value_vectors(biased, 1)).softmax(-1)[:, letters]
    for names, (least, uneven, most) in zip(found, tests, strict=True):
        wanted = set()
        for unit, chances in enumerate(said):
            k, mean = evidence.post[1][:, unit], chances.mean()
            passes = chances.sum() > least and (chances - mean).abs().mean() / mean > uneven
            if passes and k.std() / k.mean().abs() < most:
                wanted.add(f"m1.n{unit}")
        assert set(names) == wanted
    assert ("m1.n7",) in found


def test_an_edit_is_tried_as_well_from_the_layer_it_changes(biased, material, evidence):
    for edits in ((e.scale("m0.n3", 3.0),), (e.remove("m1.n7"),), (e.remove("a1.h0"),)):
        candidate = recipes.Candidate("some", edits, 1, 1.0)
        start = start_at(biased, material.train, candidate.first_layer)
        with editing(biased, edits):
            short, whole = answer(biased, material.train, start), answer(biased, material.train)
        assert np.allclose(short.letters, whole.letters, atol=1e-5)
        assert (short.top == whole.top).all()
    mixed = recipes.Candidate("some", (e.remove("m1.n7"), e.remove("a0.h1")), 2, 1.0)
    assert mixed.first_layer == 0


def test_what_harms_other_tasks_or_text_is_not_harmless():
    before = Sideways({"ioi": np.ones(400, bool)}, np.full(10, 20.0), np.full(10, 10))
    worse = before.right["ioi"].copy()
    worse[:3] = False
    cases = [
        (before, True),
        (dataclasses.replace(before, right={"ioi": worse}), False),
        (dataclasses.replace(before, loss=before.loss * 1.002), True),
        (dataclasses.replace(before, loss=before.loss * 1.01), False),
    ]
    for after, wanted in cases:
        assert edit_search.harmless(before, after) is wanted


def tried(recipe, score, low, harmless):
    gain = edit_search.Estimate(score, (low, score + 1), 10)
    return edit_search.Trial(recipes.Candidate(recipe, (), 1, 1.0), score, gain, 1.0, 0.0, harmless)


def test_the_best_of_a_recipe_is_the_surest_and_the_best_of_all_is_sure():
    sure, chance = tried("one", 0.3, 0.1, True), tried("one", 0.5, -0.1, True)
    harmful, nothing = tried("one", 0.9, 0.5, False), tried("two", -0.1, -0.2, None)
    found = edit_search.Search(0.0, (harmful, chance, sure, nothing))
    assert found.best is found.best_of("one") is sure
    assert edit_search.Search(0.0, (harmful, chance, nothing)).best is None
    assert found.best_of("two") is nothing
    assert [t.verdict for t in found.tried] == [
        "gain, but harms other tasks or text", "gain that may be chance", "sure gain", "no gain",
    ]  # fmt: skip


def test_no_right_answer_is_used_to_choose(biased, material, evidence):
    """With other right answers the same questions give the same scores."""
    turned = dataclasses.replace(material.train, gold=material.train.gold[::-1].copy())
    candidate = recipes.Candidate("zero", (e.remove("m1.n7"),), 1, 1.0)
    scores = [
        edit_search.Bench.of(biased, items, material.train_others, evidence.basis)
        .tried(candidate)
        .score
        for items in (material.train, turned)
    ]
    assert scores[0] == scores[1]


def test_random_moves_are_those_of_the_random_changes(biased, material, evidence):
    edits = (e.add("m1.n7", {" A": -3.0}),)
    items = material.test
    others = items.gold != 0

    def share():
        return float((answer(biased, items).top[others] == 0).mean())

    plain, wanted = share(), []
    for draw in range(3):
        with changed_weights(biased, random_changes(biased, edits, evidence.basis, 5 + draw)):
            wanted.append(share() - plain)
    assert random_moves(biased, edits, evidence.basis, items, 5)[:3] == pytest.approx(wanted)


def test_only_named_recipes_are_tried(biased):
    settings = mitigate.Settings(train=4, test=4, others=4, recipes=("zero", "least squares"))
    found = mitigate.find_mitigation(biased, settings)
    assert set(found.search.recipes) == {"zero", "least squares"}


def test_everything_wrong_with_settings_is_told_at_once():
    with pytest.raises(TaskError) as told:
        mitigate.Settings(train=0, test=3, seed=-1, file="no.jsonl", recipes=("projct out",))
    for part in ("train is 0", "test is 3", "seed is -1", "no file 'no.jsonl'", "'project out'"):
        assert part in str(told.value)


def test_probabilities_of_letters_are_shares_of_all_tokens():
    answers = Answers(np.log([[1.0, 3.0]]), np.array([1]), np.array([0.5]))
    assert answers.probabilities.tolist() == [[0.125, 0.375]]


def test_looking_from_a_later_block_is_looking(biased, material):
    """Starts are gone on from under an edit of that block, and say the same as whole runs."""
    others = material.train_others
    starts = OtherStarts.of(biased, others)
    for layer, edit in ((0, e.remove("a0.h1")), (1, e.remove("m1.n7"))):
        starts = starts.at(biased, layer)
        assert starts.layer == layer
        with editing(biased, edit):
            whole, resumed = look(biased, others), look(biased, others, starts)
        assert set(whole.right) == set(resumed.right)
        for name, right in whole.right.items():
            assert (right == resumed.right[name]).all()
        np.testing.assert_allclose(resumed.loss, whole.loss, rtol=1e-5)
        assert (resumed.count == whole.count).all()
    with pytest.raises(ValueError, match="cannot go back"):
        starts.at(biased, 0)


def test_losses_are_those_of_transformers_own_logits(biased, material):
    from transformers import AutoModelForCausalLM

    own = AutoModelForCausalLM.from_pretrained(biased.path)
    others, seen = material.train_others, look(biased, material.train_others)
    for row in range(len(others.tokens)):
        ids = torch.tensor(others.tokens[row][others.mask[row]])[None]
        with torch.no_grad():
            logits = own(ids).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        assert seen.loss[row] == pytest.approx(float(loss), rel=1e-4)
        assert seen.count[row] == ids.shape[1] - 1


def test_looking_only_where_it_matters_chooses_what_looking_everywhere_does(
    biased, material, evidence, monkeypatch
):
    bench = edit_search.Bench.of(biased, material.train, material.train_others, evidence.basis)
    proposals = list(recipes.candidates(biased, evidence, [0, 1]))
    tried = [bench.tried(candidate) for candidate in proposals]
    everywhere = [bench.looked(t) if t.gains else t for t in tried]
    seen, looked = [], edit_search.Bench.looked

    def counted(bench, tried):
        seen.append(tried)
        return looked(bench, tried)

    monkeypatch.setattr(edit_search.Bench, "looked", counted)
    monkeypatch.setattr(race, "FEWEST_QUESTIONS", 16)
    found = edit_search.search(bench, proposals, lambda *_: None)
    slow = edit_search.Search(found.nothing, tuple(everywhere))
    assert found.best == slow.best
    for recipe in slow.recipes:
        assert found.best_of(recipe) == slow.best_of(recipe)
    assert 0 < len(seen) < sum(t.gains for t in tried)
    skipped = next(t for t in found.tried if t.gains and t.harmless is None)
    assert skipped.verdict == "gain, but less than the recipe's best"


def test_only_what_is_asked_for_is_prepared(biased, material, evidence, monkeypatch):
    stops = Stops.of(biased, material.train_others)
    few = recipes.gather(biased, material.train, answer(biased, material.train), stops, [1])
    assert set(few.keys) == {1}
    torch.testing.assert_close(few.keys[1], evidence.keys[1])
    monkeypatch.setattr(mitigate, "gather", lambda *a: dataclasses.replace(few, keys={}))
    settings = mitigate.Settings(train=4, test=4, others=4, recipes=("zero", "scale head"))
    assert set(mitigate.find_mitigation(biased, settings).search.recipes) == {"zero", "scale head"}


def test_heads_are_tried_where_removing_them_takes_most(biased, material, monkeypatch):
    bias = mitigate.where(biased, material.train, n=4)
    ranked = [part.name for part in bias.parts if ".h" in part.name]
    monkeypatch.setattr(mitigate, "HEADS", 3)
    assert {site.name for site in mitigate.chosen_heads(bias)} == set(ranked[:3])


def test_fewer_prompts_localise_a_bias_in_many_parts(biased, monkeypatch):
    assert mitigate.prompts_to_localise(biased) == mitigate.MOST
    monkeypatch.setattr(mitigate, "RUNS", 10 * 2 * (2 + 1 + mitigate.TOP))
    assert mitigate.prompts_to_localise(biased) == 10
    monkeypatch.setattr(mitigate, "RUNS", 1)
    assert mitigate.prompts_to_localise(biased) == mitigate.LEAST
