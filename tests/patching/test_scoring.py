"""What every method keeps to: sign, sums over prompts, batches, memory, errors, nothing left."""

import dataclasses

import numpy as np
import pytest
import torch

from patching import baselines
from patching.methods import EFFECTS
from patching.metrics import logit_diff
from patching.runs import Batch
from patching.scoring import score
from tasks.errors import MethodError, ModelError, SiteError, TaskError
from tasks.pairs import PromptPairs
from tests import families

ALL = list(EFFECTS)
LEVELS = ["node", "edge"]
SITES = {"level": "site", "sites": "resid_post", "positions": "named"}


def close(found, expected, tolerance=1e-5):
    """To 1e-5 of the largest score, and of a logit."""
    atol = tolerance * max(np.abs(expected).max(), 0.1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("method", ALL)
def test_swapped_pairs_swap_the_directions(model, pairs, method, level):
    """Exchanging the runs, and with them the answers, turns noising into denoising.

    ``E`` of noising is ``m(A) - m(A, s := B)``. With A and B swapped and the metric's sign with
    them, ``E`` of denoising is ``m'(A, s := B) - m'(A)`` with ``m' = -m``: the same number.
    """
    noising = score(model, pairs, method, level, "noising")
    denoising = score(model, pairs.swapped(), method, level, "denoising")
    close(denoising.values, noising.values)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("method", ALL)
def test_swapped_runs_flip_the_sign_when_the_metric_stays(gpt2, pairs, method, level):
    """With one metric for both, noising clean to corrupted is minus denoising them swapped."""
    swapped = dataclasses.replace(pairs, clean=pairs.corrupted, corrupted=pairs.clean)
    noising = score(gpt2, pairs, method, level, "noising")
    denoising = score(gpt2, swapped, method, level, "denoising")
    close(denoising.values, -noising.values)
    assert denoising.total_effect == pytest.approx(-noising.total_effect)


@pytest.mark.parametrize("method", ["secant", "ig"])
@pytest.mark.parametrize("level", LEVELS)
def test_methods_that_use_both_runs_alike_know_no_direction(model, pairs, method, level):
    one, other = (score(model, pairs, method, level, way) for way in ("noising", "denoising"))
    close(one.values, other.values)


def test_positive_means_that_the_clean_activation_helps_the_clean_answer(model, direction):
    """Answers chosen by the model itself make the whole input's effect positive."""
    pairs = families.make_pairs()
    batch = families.one_batch(model, pairs)
    with torch.no_grad():
        clean, corrupted = (model.run(batch.tokens(run), batch.mask) for run in batch_runs())
    gap = (clean - corrupted).numpy()
    chosen = dataclasses.replace(
        pairs, answer=gap.argmax(1)[:, None], counterfactual=gap.argmin(1)[:, None]
    )
    for method in ("activation", "ig", "secant"):
        scores = score(model, chosen, method, "node", direction)
        assert scores["input"] > 0
        assert scores.clean > scores.corrupted


def batch_runs():
    return "clean", "corrupted"


@pytest.mark.parametrize("settings", [{"level": "node"}, {"level": "edge"}, SITES])
@pytest.mark.parametrize("method", ALL)
def test_batches_change_nothing(family, model, method, settings):
    """Ragged prompts in one batch, in batches with a ragged rest, and one by one."""
    pairs = families.make_pairs(n=7, padding=(0, 4, 2, 3, 3, 1, 4))
    whole = score(model, pairs, method, batch_size=32, **settings)
    for size in (1, 3) if family in ("gpt2", "gemma2") else (4,):
        parts = score(model, pairs, method, batch_size=size, **settings)
        assert parts.count == whole.count == 7
        close(parts.values, whole.values)
        close(parts.standard_error, whole.standard_error, 1e-4)
        assert parts.total_effect == pytest.approx(whole.total_effect, abs=1e-6)


@pytest.mark.parametrize("method", ["secant", "ig:steps=3", "activation"])
def test_in_float32_the_batch_size_moves_scores_by_rounding_alone(method):
    model = families.single("llama")
    pairs = families.make_pairs(64, padding=(0,) * 64)
    one, many = (score(model, pairs, method, batch_size=size).values for size in (1, 64))
    assert np.abs(one - many).max() <= 1e-5 * np.abs(many).max()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("method", ALL)
def test_scores_add_over_prompts(gpt2, pairs, method, level):
    whole = score(gpt2, pairs, method, level)
    added = score(gpt2, pairs[:2], method, level) + score(gpt2, pairs[2:], method, level)
    assert added.count == whole.count
    close(added.values, whole.values)
    close(added.standard_error, whole.standard_error, 1e-4)


def test_standard_errors_are_those_of_the_prompts(gpt2, pairs):
    whole = score(gpt2, pairs, "attribution", "node")
    each = np.stack([score(gpt2, pairs[i], "attribution", "node").values for i in range(5)])
    np.testing.assert_allclose(whole.values, each.mean(0), rtol=0, atol=1e-6)
    expected = each.std(0, ddof=1) / np.sqrt(5)
    np.testing.assert_allclose(whole.standard_error, expected, rtol=1e-3, atol=1e-6)


def test_the_same_call_gives_the_same_bits(model, pairs):
    for method in ALL:
        one, two = (score(model, pairs, method, "edge") for _ in range(2))
        assert np.array_equal(one.totals, two.totals), method


class Small:
    """A stand-in for a device that holds no more than some prompts at a time."""

    def __init__(self, limit):
        self.made = Batch.of
        self.limit = limit
        self.sizes = []

    def __call__(self, model, pairs, start):
        self.sizes.append(len(pairs))
        if len(pairs) > self.limit:
            raise torch.cuda.OutOfMemoryError("no memory left")
        return self.made(model, pairs, start)


@pytest.mark.parametrize("method", ["activation", "secant"])
def test_out_of_memory_halves_the_batch(gpt2, pairs, method, monkeypatch):
    expected = score(gpt2, pairs, method, "edge")
    device = Small(limit=2)
    monkeypatch.setattr(Batch, "of", device)
    found = score(gpt2, pairs, method, "edge", batch_size=32)
    assert device.sizes == [5, 2, 2, 1]
    assert found.count == 5
    close(found.values, expected.values)


def test_out_of_memory_with_one_prompt_is_said(gpt2, pairs, monkeypatch):
    device = Small(limit=0)
    monkeypatch.setattr(Batch, "of", device)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        score(gpt2, pairs, "attribution", "node")
    assert device.sizes == [5, 2, 1]


def test_progress_counts_prompts(gpt2, pairs):
    seen = []
    score(gpt2, pairs, "attribution", "node", batch_size=2, progress=lambda *at: seen.append(at))
    assert [at[:2] for at in seen] == [(0, 5), (2, 5), (4, 5), (5, 5)]


def test_scores_say_what_they_are(gpt2, pairs):
    scores = score(gpt2, pairs, "relevance", "edge", "denoising", "prob_diff", rules="gim")
    assert (scores.method, scores.level, scores.direction) == ("relevance", "edge", "denoising")
    assert (scores.metric, scores.count, scores.task) == ("prob_diff", 5, "random")
    assert scores.options["rules"] == "gim"
    assert scores.model_hash == gpt2.hash
    assert scores.anatomy == gpt2.anatomy
    clean, corrupted = baselines(gpt2, pairs, "prob_diff", batch_size=2)
    assert scores.clean == pytest.approx(clean.sum())
    assert scores.corrupted == pytest.approx(corrupted.sum())
    named = score(gpt2, pairs, "secant", **SITES)
    assert named.options.items() >= {"sites": "resid_post", "positions": "named"}.items()
    assert named.names == (
        *("resid_post.0@X", "resid_post.0@END", "resid_post.1@X", "resid_post.1@END"),
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "atribution"}, "unknown method 'atribution'; did you mean 'attribution'"),
        ({"level": "nodes"}, "unknown level 'nodes'; did you mean 'node'"),
        ({"direction": "noise"}, "unknown direction 'noise'; did you mean 'noising'"),
        ({"metric": "logit_dif"}, "unknown metric 'logit_dif'; did you mean 'logit_diff'"),
        ({"level": "site", "sites": "resid"}, "unknown kind of site 'resid'; did you mean 'resid"),
        ({"level": "site", "positions": "tokens"}, "way of positions 'tokens'; did you mean"),
        ({"step": 3}, "(?s)cannot run like this.*unknown option of secant 'step'"),
        ({"method": "ig", "stepz": 3}, "option of ig 'stepz'; did you mean 'steps'"),
        ({"method": "ig", "steps": "five"}, "steps must be int, given 'five'"),
        ({"method": "ig", "steps": 0}, "at least 1, given 0"),
        ({"method": "relevance", "rules": "relpp"}, "rule set 'relpp'; did you mean 'relp'"),
        ({"method": ["secant"]}, r"named by a text such as 'ig:steps=3', given \['secant'\]"),
        ({"metric": ["logit_diff"]}, "unknown metric"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, given 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number of at least 1, given 2.5"),
        ({"batch_size": None}, "batch_size must be a whole number of at least 1, given None"),
    ],
)
def test_what_is_asked_wrongly_is_said(gpt2, pairs, settings, message):
    with pytest.raises(MethodError, match=message):
        score(gpt2, pairs, **({"method": "secant"} | settings))


def test_a_model_that_is_not_open_and_pairs_that_are_none_are_refused(gpt2, pairs):
    with pytest.raises(ModelError, match=r"'gpt2', not an open model; use circuits\.load_model"):
        score("gpt2", pairs)
    with pytest.raises(TaskError, match="'ioi', not PromptPairs; make them with"):
        score(gpt2, "ioi")


def test_sites_and_positions_that_are_not_there(gpt2, pairs):
    with pytest.raises(SiteError, match="prompts of 6 to 9 tokens have no token positions"):
        score(gpt2, pairs, "secant", "site", positions="token")
    nameless = dataclasses.replace(pairs, positions={})
    with pytest.raises(SiteError, match="name no positions"):
        score(gpt2, nameless, "secant", "site", positions="named")
    with pytest.raises(SiteError, match="no resid_mid"):
        score(families.opened("gpt_neox"), pairs, "secant", "site", sites="resid_mid")


def test_pairs_that_do_not_fit_the_model(gpt2):
    prompts = {"clean": [[1, 2]], "corrupted": [[1, 3]], "answer": [1], "counterfactual": [2]}
    too_large = PromptPairs.from_tokens(**(prompts | {"answer": [families.VOCABULARY]}))
    with pytest.raises(TaskError, match="token id 61 is outside this model's vocabulary of 61"):
        score(gpt2, too_large, "secant", "node")
    long = families.make_pairs(n=1, length=140)
    with pytest.raises(TaskError, match="prompts of 140 tokens do not fit this model's 128"):
        score(gpt2, long, "secant", "node")


@pytest.mark.parametrize("padding", [-100, 61, 10**6])
@pytest.mark.parametrize("method", ["activation", "secant"])
def test_padding_is_never_looked_up(model, pairs, method, padding):
    """Whatever token stands there, and however much of it there is."""
    more = np.full((len(pairs), 30), padding)
    other = dataclasses.replace(
        pairs,
        clean=np.hstack([more, np.where(pairs.mask, pairs.clean, padding)]),
        corrupted=np.hstack([more, np.where(pairs.mask, pairs.corrupted, padding)]),
        mask=np.hstack([more == 0, pairs.mask]),
        positions={name: at + 30 for name, at in pairs.positions.items()},
    )
    found, expected = (score(model, each, method, "node") for each in (other, pairs))
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-6)


def failing(error, after):
    """A metric that works some times and then raises."""
    calls = []

    def metric(logits, pairs):
        calls.append(1)
        if len(calls) > after:
            raise error
        return logit_diff(logits, pairs)

    return metric


def hooks_of(module):
    """The hooks on every part, as the bridge may have left its own."""
    return [
        [*m._forward_hooks, *m._forward_pre_hooks, *m._backward_hooks] for m in module.modules()
    ]


@pytest.mark.parametrize("error", [ZeroDivisionError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("method", ALL)
def test_nothing_leaks_after_a_failure(gpt2, pairs, method, after, error):
    expected = score(gpt2, pairs, method, "edge", batch_size=2)
    hf = gpt2.hf
    weights = {name: value.clone() for name, value in hf.state_dict().items()}
    hooks = hooks_of(hf)
    with pytest.raises(type(error)):
        score(gpt2, pairs, method, "edge", metric=failing(error, after), batch_size=2)
    assert torch.is_grad_enabled()
    assert hooks_of(hf) == hooks
    assert all(torch.equal(value, weights[name]) for name, value in hf.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in hf.parameters())
    again = score(gpt2, pairs, method, "edge", batch_size=2)
    assert np.array_equal(again.totals, expected.totals)


@pytest.mark.parametrize("method", [name for name in ALL if name != "activation"])
def test_a_caller_without_gradients_gets_the_same_scores(gpt2, pairs, method):
    expected = score(gpt2, pairs, method, "edge")
    with torch.no_grad():
        found = score(gpt2, pairs, method, "edge")
    assert np.array_equal(found.totals, expected.totals)


@pytest.mark.parametrize("method", ALL)
def test_an_activation_that_overflows_is_an_error_and_names_the_site(method, pairs):
    from patching.model import Model

    model = Model.open(families.build("llama"))
    model.hf.model.layers[1].mlp.down_proj.weight.data[:] = float("inf")
    with pytest.raises(MethodError, match=r"activation at mlp_(raw|out)\.1 is not a finite number"):
        score(model, pairs, method, "node")
