"""Curves of a model whose circuit is known, and what makes two of them comparable."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from circuits.evaluation.areas import KINDS
from circuits.evaluation.curves import SIZES, curve, plan, run_plans
from circuits.evaluation.outcomes import (
    Outcomes,
    check_disjoint,
    check_same_model,
    measure,
    prompt_keys,
    undefined,
)
from circuits.evaluation.running import Running
from graphs import CircuitInfo
from patching.ablation.run import baselines
from patching.circuit_run import run_circuit
from patching.nodes.edges import EdgeSet, edges
from patching.scoring import score
from patching.sites import parse_edge
from tasks.errors import MethodError, ModelError, RunError
from tasks.pairs import PromptPairs
from tests.known import compiled, interchange

MODEL, CIRCUIT = interchange.opened, interchange.CIRCUIT


@cache
def pairs(seed=1, n=32):
    return interchange.pairs(n, seed)


@cache
def exact():
    return score(MODEL(), pairs(), "activation")


def test_the_curve_is_the_faithfulness_of_the_strongest_edges():
    scores, sizes = exact(), (0.02, 0.08, 0.3, 1.0)
    (found,) = run_plans(MODEL(), pairs(2), [plan(scores, "absolute", sizes)])
    full, empty = (values.mean() for values in baselines(MODEL(), pairs(2)))
    assert found.requested == tuple(int(size * 110) for size in sizes)
    for value, count, kept in zip(found.faithfulness, found.requested, found.kept, strict=True):
        chosen = EdgeSet.of(scores.ranked()[:count], scores.anatomy).connected()
        alone = run_circuit(MODEL(), pairs(2), chosen).mean()
        assert len(chosen) == kept
        assert value == pytest.approx((alone - empty) / (full - empty), abs=1e-5)
    assert found.faithfulness[-1] == pytest.approx(1, abs=1e-5)


def test_the_known_circuit_is_where_the_curve_reaches_one():
    found = curve(MODEL(), pairs(2), exact(), "absolute")
    at = dict(zip(found.sizes, found.faithfulness, strict=True))
    assert at[0.001] == 0
    assert at[0.01] == 0
    assert at[0.1] > 0.95
    assert found.area("cpr") > 0.9
    assert found.area("cmd") < 0.1
    low, high = found.interval("cpr")
    assert low < found.area("cpr") < high
    assert found.preferred()[0] == 0
    assert found.right()[-1] == found.preferred()[-1] == 1


def test_signed_and_absolute_rankings_differ_by_the_negative_edges():
    scores = exact()
    totals = scores.totals.copy()
    totals[scores.names.index(CIRCUIT[-1])] *= -1
    turned = replace(scores, totals=totals)
    signed, absolute = (plan(turned, ranking, (0.1,)) for ranking in ("signed", "absolute"))
    assert parse_edge(CIRCUIT[-1]) in absolute.circuits[0]
    assert parse_edge(CIRCUIT[-1]) not in signed.circuits[0]


def test_node_scores_have_curves_too():
    nodes = score(MODEL(), pairs(), "secant", level="node")
    found = curve(MODEL(), pairs(2), nodes, "absolute", Running(batch_size=7))
    assert found.requested[-1] == len(nodes)
    assert found.faithfulness[-1] == pytest.approx(1, abs=1e-5)


def test_a_paired_gap_is_narrower_than_two_intervals_and_needs_the_same_prompts():
    first, second = (plan(score(MODEL(), pairs(), m), "absolute") for m in ("secant", "ig"))
    one, two = run_plans(MODEL(), pairs(2), [first, second])
    gap, (low, high) = one.gap(two, "cpr")
    assert gap == pytest.approx(one.area("cpr") - two.area("cpr"))
    assert low <= gap <= high
    assert one.gap(one, "cmd") == (0.0, (0.0, 0.0))
    (other,) = run_plans(MODEL(), pairs(3), [first])
    with pytest.raises(RunError, match="different prompts"):
        one.gap(other, "cpr")


def test_batches_change_nothing():
    plans = [plan(exact(), "signed")]
    (whole,), (parts,) = (
        run_plans(MODEL(), pairs(2), plans, Running(batch_size=b)) for b in (64, 5)
    )
    assert parts.faithfulness == pytest.approx(whole.faithfulness, abs=1e-5)


def test_a_model_that_does_not_do_the_task_gets_no_areas():
    """Only the third bit differs, which the parity of the first two does not depend on."""
    case = compiled.parity(16)
    clean = case.pairs.clean
    other = clean.copy()
    other[:, 3] = 3 - clean[:, 3]
    same = PromptPairs.from_tokens(
        clean=clean, corrupted=other, answer=[4] * 16, counterfactual=[5] * 16
    )
    found = curve(case.model, same, score(case.model, case.pairs, "secant"))
    told = found.to_json()
    assert [told["areas"][kind] for kind in KINDS] == [None] * 4
    assert told["faithfulness"] is None
    value = f"{baselines(case.model, same)[0].mean():+.4f}"
    assert told["undefined"].count(value) == 2
    assert "undefined" in repr(found)


def test_a_difference_within_noise_is_no_task():
    rng = np.random.default_rng(0)
    metric = np.stack([rng.normal(0, 1, 50), rng.normal(0, 1, 50), np.zeros(50)])
    none = np.zeros((3, 50), dtype=bool)
    assert not Outcomes("logit_diff", metric, none, none).defined
    metric[0] += 2
    assert Outcomes("logit_diff", metric, none, none).defined
    assert "logit_diff" in undefined(Outcomes("logit_diff", metric, none, none))


def test_accuracy_is_of_the_circuit_not_of_the_model():
    found = measure(MODEL(), pairs(), [[], edges(MODEL().anatomy), CIRCUIT[:-1]])
    assert found.preferred.mean(1).tolist() == [1, 0, 0, 1, 0]
    assert found.right.mean(1).tolist() == [1, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ranking": "sined"}, "did you mean 'signed'"),
        ({"sizes": (0.5, 0.1)}, "sizes must grow"),
        ({"sizes": (0.0, 1.0)}, "sizes must grow"),
    ],
)
def test_bad_plans(options, words):
    with pytest.raises(MethodError, match=words):
        plan(exact(), **options)
    with pytest.raises(MethodError, match="unknown area 'crp'"):
        curve(MODEL(), pairs(2), exact()).area("crp")
    assert len(SIZES) == 10


def test_another_model_is_refused_unless_allowed_and_of_the_same_shape():
    model = MODEL()
    here = CircuitInfo(model.anatomy)
    check_same_model(model.hash, here, model)
    with pytest.raises(ModelError, match="--allow-other-model"):
        check_same_model("0" * 64, here, model)
    check_same_model("0" * 64, here, model, allow_other=True)
    other = CircuitInfo(replace(model.anatomy, n_layers=9))
    with pytest.raises(ModelError, match=r"another shape: n_layers 9, given \d"):
        check_same_model("0" * 64, other, model, allow_other=True)


def test_prompts_in_common_are_found_whatever_their_padding():
    one = pairs()
    padded = one.__class__.from_tokens(
        clean=np.pad(one.clean[:3], ((0, 0), (2, 0))),
        corrupted=np.pad(one.corrupted[:3], ((0, 0), (2, 0))),
        answer=one.answer[:3],
        counterfactual=one.counterfactual[:3],
        mask=np.pad(one.mask[:3], ((0, 0), (2, 0))),
    )
    assert prompt_keys(padded) == prompt_keys(one)[:3]
    with pytest.raises(RunError, match="3 of 3 prompts"):
        check_disjoint(one, padded)
