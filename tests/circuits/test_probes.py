"""Probes of tiny random models, on labels that are in the prompts, in their order, or nowhere."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import circuits
from circuits.edits.edit import steer
from circuits.probes import Probes, fit, probe
from circuits.splits import Split
from patching.capture import Prompts, streams
from tasks.errors import MethodError, TaskError
from tests import families

N, LENGTH = 80, 7


@pytest.fixture(scope="module")
def model():
    return families.opened("gpt2")


@pytest.fixture(scope="module")
def case():
    """Random prompts whose label is the token at column 4, a word of two each."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(20, families.VOCABULARY, (N, LENGTH))
    numbers = np.arange(N) % 3
    tokens[:, 4] = 2 * numbers + rng.integers(0, 2, N) + 1
    labels = [("red", "green", "blue")[number] for number in numbers]
    return Prompts.of(tokens.tolist()), labels, [str(i // 6) for i in range(N)]


@pytest.fixture(scope="module")
def found(model, case):
    prompts, labels, groups = case
    return probe(model, prompts, labels, groups=groups, positions={"label": -3, "end": -1})


def test_a_label_that_stands_at_a_token_is_read_there(found):
    assert found.points == ("resid_mid.0", "resid_post.0", "resid_mid.1", "resid_post.1")
    assert found.accuracy[0, 0] == 1
    assert found.fitted + found.tested == N
    assert found.share("resid_mid.0", "label").value == 1
    low, high = found.share("resid_post.1", "end").interval
    assert low < found.accuracy[3, 1] < high or found.accuracy[3, 1] == 1


def test_nothing_is_read_of_labels_in_random_order_or_before_they_are_given(model, case):
    prompts, labels, groups = case
    early = probe(model, prompts, labels, groups=groups, positions=(-4,))
    assert early.share("resid_mid.0").interval[0] < early.chance + 0.1
    # Six words stand for three labels: a fit on noise gives each word any of them.
    mixed = [
        probe(model, prompts, labels, positions=(-3,), shuffled=True, seed=s).accuracy[0, 0]
        for s in range(10)
    ]
    assert 0.15 < np.mean(mixed) < 0.55


def test_weights_are_for_the_stream_as_it_is(model, case, found):
    prompts, labels, groups = case
    split = Split.of(labels, groups, 0.3, np.random.default_rng(0))
    x = streams(model, prompts, np.full((N, 1), 6)).double().numpy()[:, 0, 2]
    mean, spread = x[~split.test].mean(0), x[~split.test].std(0)
    theirs = LogisticRegression(C=0.1, max_iter=2000)
    theirs.fit((x[~split.test] - mean) / spread, split.numbers[~split.test])
    told = theirs.predict((x[split.test] - mean) / spread) == split.numbers[split.test]
    assert found.right[2, 1] == told.sum()
    ours = x @ found.weights[:, 2, 1].T + found.biases[:, 2, 1]
    odds = theirs.decision_function((x - mean) / spread)
    np.testing.assert_allclose(
        ours - ours.mean(1, keepdims=True), odds - odds.mean(1, keepdims=True), atol=1e-6
    )
    np.testing.assert_allclose(found.weights.sum(0), 0, atol=1e-9)


def test_two_labels_have_opposite_weights():
    rng = np.random.default_rng(0)
    numbers = np.arange(60) % 2
    x = rng.normal(size=(60, 1, 2, 5))
    x[:, 0, :, 3] += 6 * numbers[:, None]
    split = Split.of(["yn"[i] for i in numbers], None, 0.5, rng)
    found = fit(x, split, ["-1"])
    assert (found.accuracy > 0.9).all()
    np.testing.assert_allclose(found.weights[0], -found.weights[1])
    assert found.vector("n", "resid_mid.0").argmax() == 3
    assert np.linalg.norm(found.vector("n", "resid_mid.0")) == pytest.approx(1)


def test_a_probes_weights_are_an_edit_that_moves_what_the_probe_tells(model, case, found):
    prompts, _, _ = case
    edit = found.edit("blue", "resid_post.0", 25.0, "end")
    assert edit == steer("resid_post.0", found.vector("blue", "resid_post.0", "end").tolist(), 25.0)
    tokens, mask = torch.tensor(prompts.tokens), torch.tensor(prompts.mask)
    seen = {}

    def read(kind, layer, value):
        if (kind, layer) == ("resid_post", 0):
            seen["x"] = value[:, -1].double().numpy()
        return value

    with circuits.editing(model, edit) as edited:
        edited.run(tokens, mask, tap=read)
    told = (seen["x"] @ found.weights[:, 1, 1].T + found.biases[:, 1, 1]).argmax(1)
    assert (told == found.labels.index("blue")).mean() > 0.9


def test_noise_is_put_before_the_prompt_and_keeps_its_end(model, case):
    prompts, labels, groups = case
    noisy = probe(model, prompts, labels, groups=groups, positions={"label": -3}, noise=5)
    again = probe(model, prompts, labels, groups=groups, positions={"label": -3}, noise=5)
    plain = probe(model, prompts, labels, groups=groups, positions={"label": -3})
    assert (noisy.right == again.right).all()
    assert noisy.right[0, 0] == noisy.tested
    assert not np.allclose(noisy.weights, plain.weights)


def test_rounded_weights_are_a_condition_and_gone_afterwards(model, case, found):
    prompts, labels, groups = case
    rounded = probe(model, prompts, labels, groups=groups, positions=(-1,), bits=2)
    again = probe(model, prompts, labels, groups=groups, positions={"label": -3, "end": -1})
    assert not np.allclose(rounded.weights[..., 0, :], found.weights[..., 1, :])
    assert (again.weights == found.weights).all()


def test_texts_are_read_with_the_models_tokenizer(shared):
    stories = circuits.load_model(str(shared / "models" / "stories260K"))
    texts = [f"{name} went to the {place}." for name in ("Lily", "Tim") for place in PLACES]
    labels = ["Lily"] * len(PLACES) + ["Tim"] * len(PLACES)
    found = circuits.probe(stories, texts, labels, groups=PLACES * 2, noise=2)
    assert found.accuracy.max() > 0.8
    frame = found.to_frame()
    assert list(frame.columns) == ["point", "position", "accuracy", "low", "high", "n"]
    assert len(frame) == len(found.points)
    assert ((frame.low <= frame.accuracy) & (frame.accuracy <= frame.high)).all()


PLACES = ["park", "shop", "beach", "house", "zoo", "school", "lake", "farm", "garden", "store"]


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"bits": 1}, MethodError, "2 to 16 bits, given 1"),
        ({"noise": -1}, MethodError, "noise is -1"),
        ({"penalty": 0}, MethodError, "penalty 0; give a number of tokens and a number above 0"),
        ({"noise": 130}, TaskError, "a prompt of 137 tokens does not fit 128 positions"),
        ({"positions": ()}, TaskError, "no position is given"),
        (
            {"positions": {"a": -8, "b": [1, 2], "c": 0}},
            TaskError,
            r"position 'a' is -8 in prompt 0 of 7 tokens.*\n.*'b' has shape \(2,\).*\n.*'c' is 0",
        ),
        ({"held_out": 0.0}, TaskError, "held_out is 0.0"),
        ({"labels": ["red"] * N}, TaskError, "only one label"),
        ({"labels": ["red"] * 3, "groups": None}, TaskError, "80 prompts for 3 labels"),
    ],
)
def test_input_that_is_refused(model, case, changes, error, told):
    prompts, labels, groups = case
    given = {"labels": labels, "groups": groups, **changes}
    with pytest.raises(error, match=told):
        probe(model, prompts, **given)


def test_texts_need_a_tokenizer(model):
    with pytest.raises(TaskError, match="no tokenizer; give prompts as token ids"):
        probe(model, ["a", "b"] * 4, ["x", "y"] * 4)


@pytest.mark.parametrize(
    ("label", "point", "position", "told"),
    [
        ("rad", "resid_mid.0", None, "unknown label 'rad'; did you mean 'red'"),
        ("red", "resid_mid.7", None, "unknown point 'resid_mid.7'"),
        ("red", "resid_mid.0", -2, "unknown position '-2'"),
    ],
)
def test_a_probe_that_is_not_there(found, label, point, position, told):
    assert isinstance(found, Probes)
    with pytest.raises(MethodError, match=told):
        found.vector(label, point, position)
