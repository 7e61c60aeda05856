"""Metrics by hand, and what is said of metrics that do not fit."""

import numpy as np
import pytest
import torch

from patching.ablation.run import baselines
from patching.metrics import METRICS, check_metric
from patching.scoring import score
from tasks.errors import MethodError
from tasks.pairs import PromptPairs
from tests import families

PAIRS = PromptPairs.from_tokens(
    clean=[[1, 2], [1, 2]],
    corrupted=[[1, 3], [1, 3]],
    answer=[[0, 1], [2]],
    counterfactual=[[3], [0, 3]],
)
LOGITS = torch.tensor([[1.0, 3.0, 0.0, -1.0], [0.5, 0.0, 2.0, 1.5]], dtype=torch.float64)
P = LOGITS.softmax(-1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("logit_diff", [2.0 - -1.0, 2.0 - 1.0]),
        ("answer_logit", [2.0 - 0.75, 2.0 - 1.0]),
        ("prob_diff", [P[0, 0] + P[0, 1] - P[0, 3], P[1, 2] - P[1, 0] - P[1, 3]]),
        ("log_prob", [(P[0, 0] + P[0, 1]).log(), P[1, 2].log()]),
        ("sequence_log_prob", [(P[0, 0] + P[0, 1]).log(), P[1, 2].log()]),
    ],
)
def test_metrics_with_several_answers(name, expected):
    """Logits are averaged over the answers, probabilities are added; short rows are ignored."""
    found = check_metric(name)(LOGITS, PAIRS)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_a_whole_answer_is_measured_token_by_token(gpt2):
    """The log-probability of a text is what teacher forcing gives, whatever its pieces."""
    prompt, answer = [5, 9, 2], [7, 1, 4]
    pairs = PromptPairs(
        clean=np.array([[*prompt, answer[0]]]),
        corrupted=np.array([[3, 9, 2, answer[0]]]),
        mask=np.ones((1, 4), dtype=bool),
        answer=np.array([[answer[1]]]),
        counterfactual=np.array([[8]]),
        shared=np.array([1]),
        rest=np.array([[answer[2]]]),
    )
    with pytest.raises(MethodError, match=r"give it pairs.each_token\(\)"):
        score(gpt2, pairs, "secant", "node", metric="sequence_log_prob")
    rows = pairs.each_token()
    found, _ = baselines(gpt2, rows, "sequence_log_prob")
    ids = torch.tensor([[*prompt, *answer]])
    logits = gpt2.bridge(ids)[0].log_softmax(-1)
    expected = [logits[len(prompt) - 1 + k, token].item() for k, token in enumerate(answer)]
    assert found == pytest.approx(expected, abs=1e-5)
    scores = score(gpt2, rows, "secant", "node", metric="sequence_log_prob")
    assert (scores.count, scores.standard_error) == (1, None)
    assert scores.clean == pytest.approx(np.mean(expected), abs=1e-5)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_larger_for_more_of_the_clean_answer(name):
    metric = check_metric(name)
    more = LOGITS.clone()
    more[0, :2] += 0.5
    more[1, 2] += 0.5
    assert (metric(more, PAIRS) > metric(LOGITS, PAIRS)).all()


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_differentiable_and_per_prompt(name):
    logits = LOGITS.clone().requires_grad_()
    (grad,) = torch.autograd.grad(check_metric(name)(logits, PAIRS)[0], logits)
    assert grad[0].any()
    assert not grad[1].any()


@pytest.mark.parametrize("name", METRICS)
def test_half_precision_logits_are_measured_in_single(name):
    assert check_metric(name)(LOGITS.bfloat16(), PAIRS).dtype == torch.float32


def test_an_impossible_answer_is_a_large_number_and_not_minus_infinity():
    logits = torch.tensor([[-1e4, -1e4, 0.0, 0.0], [0.0, 0.0, -1e4, 0.0]])
    found = check_metric("log_prob")(logits, PAIRS)
    assert torch.isfinite(found).all()
    assert (found < -80).all()


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda logits, pairs: logits, r"shape \(5,\); it gave \(5, 61\)"),
        (lambda logits, pairs: logits.mean(), r"shape \(5,\); it gave \(\)"),
        (lambda logits, pairs: logits[:2, 0], r"shape \(5,\); it gave \(2,\)"),
        (lambda logits, pairs: 3.0, r"shape \(5,\); it gave float"),
        (lambda logits, pairs: np.zeros(5), "it gave ndarray"),
        (lambda logits, pairs: logits.argmax(-1).float(), "is not differentiable"),
        (lambda logits, pairs: logits[:, 0].detach(), "is not differentiable"),
        (lambda logits, pairs: logits[:, 0] / torch.zeros(5), r"is -?(inf|nan) for prompt 0"),
        (lambda logits, pairs: logits[:, 0] * torch.tensor([1, 1, torch.nan, 1, 1]), "prompt 2"),
    ],
)
def test_metrics_that_do_not_fit_are_said_before_any_score(gpt2, metric, message):
    with pytest.raises(MethodError, match=message):
        score(gpt2, families.make_pairs(), "secant", "node", metric=metric)


def test_exact_effects_need_no_derivative(gpt2):
    """A metric such as being right or wrong cannot be differentiated, yet it can be measured."""

    def right(logits, pairs):
        return (logits[:, 0] > logits[:, 1]).float()

    scores = score(gpt2, families.make_pairs(), "activation", "node", metric=right)
    assert scores.metric == "right"
    assert set(np.unique(np.abs(scores.totals)) % 1) == {0.0}


@pytest.mark.parametrize("level", ["node", "edge"])
def test_a_metric_may_be_true_or_false(gpt2, level):
    """As it may be a whole number."""

    def right(logits, pairs):
        return logits[:, 0] > logits[:, 1]

    def as_float(logits, pairs):
        return right(logits, pairs).float()

    found, expected = (
        score(gpt2, families.make_pairs(), "activation", level, metric=metric)
        for metric in (right, as_float)
    )
    assert np.array_equal(found.totals, expected.totals)


def test_an_answer_that_is_all_but_impossible_still_has_a_slope():
    """In single precision its probability is zero; its log-probability is a number like others."""
    logits = torch.tensor([[-200.0, -200.0, 0.0, 0.0], [0.0, 0.0, -200.0, 0.0]], requires_grad=True)
    found = check_metric("log_prob")(logits, PAIRS)
    expected = [-200.0, -200 - np.log(3)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))
    (slope,) = torch.autograd.grad(found.sum(), logits)
    torch.testing.assert_close(slope[0], torch.tensor([0.5, 0.5, -0.5, -0.5]))


def test_the_name_of_a_metric_is_kept(gpt2):
    pairs = families.make_pairs()
    anonymous = score(gpt2, pairs, "attribution", "node", metric=lambda x, p: x[:, 0])
    assert anonymous.metric == "<lambda>"
    assert score(gpt2, pairs, "attribution", "node", metric="log_prob").metric == "log_prob"
