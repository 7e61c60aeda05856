"""Trials count what was replied; the harness drives every label with the same decoding."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import circuits
from circuits.directions import Directions
from circuits.results.intervals import Proportion
from circuits.studies.emotion.baselines import random_components
from circuits.studies.emotion.circuit import Components
from circuits.studies.emotion.control import Reply, perplexity, replies
from circuits.studies.emotion.side_effects import other_tasks, perplexities
from circuits.studies.emotion.trial import Harness, JudgedReply, Trial, untouched
from tests import tiny_emotion

FINE, LOOP = Reply("fine", 5, True, False), Reply("go go go go go", 5, False, True)
SHORT = Reply("x", 1, True, False)


def row(label, hit, reply=FINE, kind="up"):
    return JudgedReply(label, kind, hit, reply)


def test_a_trial_counts_hits_and_degenerate_replies():
    draw = (
        row("calm", True),
        row("calm", False, SHORT, "down"),
        row("wild", True, LOOP),
        row("wild", True, kind="down"),
    )
    found = Trial("circuit", (draw,))
    assert found.share.value == 0.75
    assert found.degenerate.value == 0.5
    assert {name: share.value for name, share in found.by("label").items()} == {
        "calm": 0.5,
        "wild": 1.0,
    }
    assert found.by("kind")["down"].value == 0.5
    assert found.examples == (
        ("calm", "fine"),
        ("calm", "x"),
        ("wild", "go go go go go"),
        ("wild", "fine"),
    )
    told = found.to_json()
    assert told["replies"] == 4
    assert told["replies_that_repeat"] == told["replies_cut_off_at_the_limit"] == 1
    assert told["replies_of_fewer_than_two_tokens"] == 1
    assert told["degenerate"]["n"] == 4


def test_draws_are_averaged_and_all_counted():
    draws = tuple((row("calm", hit), row("wild", False, LOOP)) for hit in (True, True, False))
    found = Trial("random components", draws)
    assert found.share.value == pytest.approx(1 / 3)
    assert found.share.n == 2
    assert found.to_json()["all"]["draws"] == [0.5, 0.5, 0.0]
    assert found.to_json()["replies_that_repeat"] == 3


@pytest.fixture(scope="module")
def harness():
    model, concept = tiny_emotion.opened(), tiny_emotion.concept()
    a, rng = model.anatomy, np.random.default_rng(0)
    vectors = rng.normal(size=(2, 4, a.d_model))
    directions = Directions(
        labels=concept.labels,
        groups=1,
        vectors=vectors / np.linalg.norm(vectors, axis=-1, keepdims=True),
        sizes=np.ones((2, 4)),
        rms=np.ones(4),
        neurons=rng.normal(size=(2, 2, a.d_mlp)),
        heads=rng.normal(size=(2, 2, a.n_heads, a.d_head)),
    )
    chosen = (Components(((1, 2), (3,)), ((0,), ())), Components(((), (5, 6)), ((1,), (2,))))
    return Harness(model, concept, directions, chosen, (1,), "last", tiny_emotion.NEW, 3)


def test_prompts_that_ask_are_those_of_the_label_and_the_others_are_the_same_for_all(harness):
    tests = harness.concept.test
    asked = harness.try_out("prompting", tests, [untouched], asked=True)
    plain = harness.try_out("none", tests, [untouched, untouched])
    assert [len(draw) for draw in (*asked.draws, *plain.draws)] == [8, 8, 8]
    assert asked.share.value > plain.share.value
    neutral = [prompt for prompt in tests if prompt.label is None]
    said = [reply.text for reply in replies(harness.model, neutral, tiny_emotion.NEW)]
    assert [r.reply.text for r in plain.draws[0]] == said * 2
    assert plain.draws[0] == plain.draws[1]


def test_every_label_has_its_own_strength_and_vectors(harness):
    x = torch.ones(1, 2, harness.model.anatomy.d_model)
    vectors = np.zeros((2, 2, x.shape[-1]))
    vectors[:, :, 0] = 1
    pushes = [harness.steered((0.5, 2.0), vectors)(e)("resid_post", 1, x) for e in (0, 1)]
    sizes = [float((push - x)[0, -1].norm() / x[0, -1].norm()) for push in pushes]
    assert sizes == pytest.approx([0.5, 2.0])
    same = harness.steered(0.5)(1)("resid_post", 1, x)
    assert float((same - x)[0, -1].norm() / x[0, -1].norm()) == pytest.approx(0.5)
    mlp = torch.zeros(1, 2, harness.model.anatomy.d_mlp)
    weak, strong = (harness.enhanced(s)(0)("mlp_post", 0, mlp) for s in ((1.0, 9.0), 3.0))
    torch.testing.assert_close(strong, 3 * weak)
    assert not harness.silenced()(0)("mlp_post", 0, torch.ones_like(mlp))[0, -1, [1, 2]].any()


def test_random_components_differ_from_draw_to_draw_and_from_the_circuits(harness):
    draws = random_components(harness, 4, seed=0)
    assert draws == random_components(harness, 4, seed=0)
    assert len({str(draw) for draw in draws}) == 4
    for draw in draws:
        for other, own in zip(draw, harness.chosen, strict=True):
            assert [len(units) for units in other.neurons] == [len(u) for u in own.neurons]
            assert not set(other.neurons[0]) & set(own.neurons[0])


def test_side_effects_of_leaving_the_model_alone_are_those_of_the_model(harness):
    texts = ["abc abd abe.", "q z q z"]
    silence = harness.silenced()
    found = perplexities(harness, texts, {"none": [untouched], "cut": [silence, silence]})
    assert found["none"] == pytest.approx(perplexity(harness.model, texts))
    cut = [perplexity(harness.model, texts, silence(e)) for e in (0, 1)]
    assert found["cut"] == pytest.approx(sum(cut) / 2)


def test_tasks_that_the_tokenizer_cannot_write_are_left_out(harness):
    """Letters by letters it can write the options of a question, and no name, number or word."""
    assert set(other_tasks(harness, {"none": [untouched]}, 2, 0)) == {"mcq_bias"}


def test_labels_share_the_pairs_of_another_task(harness):
    """Pairs under several labels' taps are not several times as many pairs."""
    nano = circuits.load_model("nano")
    pairs = circuits.load_task("ioi").pairs(nano.tokenizer, n=5, seed=0)

    def silent(label):
        return lambda kind, layer, value: value * 0 if kind == ("z", "mlp_out")[label] else value

    makes = {"none": [untouched], "cut": [silent]}
    found = other_tasks(replace(harness, model=nano), makes, 5, 0)["ioi"]
    with torch.no_grad():
        logits = [
            nano.run(torch.tensor(pairs.clean), torch.tensor(pairs.mask), silent(label))
            for label in (0, 1)
        ]
    answer, other = (torch.tensor(ids) for ids in (pairs.answer, pairs.counterfactual))
    right = [(run.gather(1, answer) > run.gather(1, other)).float().mean() for run in logits]
    assert found["cut"]["value"] == pytest.approx(float(sum(right) / 2))
    assert found["none"]["n"] == found["cut"]["n"] == 5
    low, high = Proportion(round(5 * found["cut"]["value"]), 5).interval
    assert found["cut"]["interval"][0] <= low
    assert found["cut"]["interval"][1] >= high
