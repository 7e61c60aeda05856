"""Choices that need several methods, error bars, or further runs of the model."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from circuits.evaluation.outcomes import measure
from circuits.selection.combine import bootstrap_excludes_zero, ensemble, steady
from circuits.selection.prune import acdc, iterated
from patching.circuit_run import run_circuits
from patching.nodes.edges import edges
from patching.scoring import prompt_scores, score
from patching.sites import parse_edge
from tasks.errors import MethodError
from tests.known import compiled, interchange

MODEL, CIRCUIT = interchange.opened, set(interchange.CIRCUIT)


@cache
def pairs():
    return interchange.pairs(32)


@cache
def scored(method):
    return score(MODEL(), pairs(), method)


def test_an_ensemble_is_the_mean_of_scores_of_equal_size():
    one, two = scored("secant"), scored("attribution")
    mean = ensemble(one, two)
    sizes = [np.sqrt(np.mean(each.values**2)) for each in (one, two)]
    expected = (one.values / sizes[0] + two.values / sizes[1]) / 2 * np.mean(sizes)
    assert mean.values == pytest.approx(expected)
    assert ensemble(one, replace(one, totals=7 * one.totals)).ranked() == one.ranked()
    plain = ensemble(one, two, normalise=False)
    assert plain.values == pytest.approx((one.values + two.values) / 2)
    assert mean.method == "mean of secant, attribution"
    assert mean.standard_error is None


def test_an_ensemble_of_what_does_not_belong_together():
    one = scored("secant")
    with pytest.raises(MethodError, match="at least two"):
        ensemble(one)
    with pytest.raises(MethodError, match=r"direction differ(.|\n)*scores nothing but 0"):
        ensemble(one, replace(one, direction="denoising", totals=0 * one.totals))


def test_steady_edges_are_those_whose_interval_excludes_zero():
    scores = scored("secant")
    graph = steady(scores)
    for name in graph:
        spread = scores.standard_error[scores.names.index(name)]
        assert abs(scores[name]) > 1.96 * spread
    assert set(graph) >= CIRCUIT
    assert set(steady(scores, n=8)) == CIRCUIT
    assert graph.info.selection.considered == len(scores)
    with pytest.raises(MethodError, match="no standard errors"):
        steady(replace(scores, squares=None))


def test_the_bootstrap_agrees_with_the_standard_errors():
    scores, rows = prompt_scores(MODEL(), pairs(), "secant", batch_size=5)
    names = scores.names
    assert scores.values == pytest.approx(scored("secant").values, abs=1e-5)
    assert rows.mean(axis=0) == pytest.approx(scores.values, abs=1e-5)
    drawn = bootstrap_excludes_zero(rows)
    normal = np.abs(scores.values) > 1.96 * scores.standard_error
    assert (drawn == normal).mean() > 0.9
    assert drawn[[names.index(edge) for edge in CIRCUIT]].all()


def test_the_bootstrap_keeps_what_is_sure():
    rng = np.random.default_rng(0)
    rows = np.stack([rng.normal(1, 1, 60), rng.normal(0, 1, 60), rng.normal(-1, 1, 60)], axis=1)
    assert bootstrap_excludes_zero(rows).tolist() == [True, False, True]


@pytest.mark.parametrize("start", [None, "secant"])
def test_iterating_finds_the_known_circuit(start):
    first = None if start is None else scored(start)
    found = iterated(MODEL(), pairs(), (8, 20, 55), start=first, steps=2)
    assert [len(graph) for graph in found] == sorted((len(g) for g in found), reverse=True)
    assert all(len(g) <= count for g, count in zip(found, (55, 20, 8), strict=True))
    assert all(set(small) <= set(large) for large, small in pairwise(found))
    assert set(found[-1]) == CIRCUIT
    assert found[-1].info.selection.describe().startswith("8 by |score| inside")


def test_an_iterated_circuit_of_a_tenth_keeps_most_of_the_metric():
    (graph,) = iterated(MODEL(), pairs(), (11,), steps=1)
    assert measure(MODEL(), interchange.pairs(32, 5), [list(graph)]).faithfulness[0] > 0.9


@pytest.mark.parametrize("bad", [{"counts": ()}, {"counts": (0,)}, {"counts": (5,), "keep": 1.0}])
def test_bad_rounds(bad):
    with pytest.raises(MethodError, match="counts must be"):
        iterated(MODEL(), pairs(), **bad)


def test_pruning_edge_by_edge_finds_a_compiled_circuit_with_its_exact_effects():
    case = compiled.parity(16)
    graph = acdc(case.model, case.pairs, 0.1)
    assert set(graph) == case.edges
    # Nothing was put back after the last edge, so each effect is that of the final circuit but
    # for what was pruned later, which moved the metric by less than the threshold in all.
    cut = [[e for e in graph if e != left] for left in graph]
    kept = run_circuits(case.model, case.pairs, [list(graph), *cut]).mean(axis=1)
    for edge, without in zip(graph, kept[1:], strict=True):
        assert graph[edge] == pytest.approx(kept[0] - without, abs=0.1)


def test_pruning_starts_from_a_circuit_and_may_leave_nothing():
    case = compiled.parity(16)
    some = [edge for edge in edges(case.model.anatomy) if edge.name in case.edges]
    assert set(acdc(case.model, case.pairs, 0.1, start=some)) == case.edges
    broken = [edge for edge in some if edge != parse_edge("m0->logits")]
    assert len(acdc(case.model, case.pairs, 0.1, start=broken)) == 0
    with pytest.raises(MethodError, match="negative"):
        acdc(case.model, case.pairs, -1)
