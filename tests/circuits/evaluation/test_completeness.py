"""Completeness, minimality and chance, on models where the truth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.evaluation.completeness import (
    completeness,
    minimality,
    random_baseline,
    random_circuit,
)
from circuits.evaluation.outcomes import measure
from circuits.evaluation.running import Running
from patching.anatomy import Anatomy
from patching.circuit_run import run_circuits
from patching.nodes.edges import edges
from patching.nodes.layout import layout_of
from patching.sites import parse_edge
from tasks.errors import MethodError, SiteError
from tests.known import compiled

CASE = compiled.parity(16)
TRUE = [parse_edge(edge) for edge in sorted(CASE.edges)]
IDLE = [parse_edge(edge) for edge in ("input->a1.h1<v>", "a1.h1->logits")]


def test_a_complete_circuit_breaks_as_the_model_does():
    found = completeness(CASE.model, CASE.pairs, TRUE, cuts=4)
    assert found.gap == pytest.approx(0, abs=1e-3)
    assert found.without == pytest.approx(0, abs=1e-3)
    assert len(found.circuit) == len(found.model) == 4


def test_an_incomplete_circuit_is_told_by_what_the_model_keeps():
    """Half of the circuit: the model without it still does the other half of the prompts."""
    half = [edge for edge in TRUE if "h2" not in edge.name]
    found = completeness(CASE.model, CASE.pairs, half[:1], cuts=2, share=1.0)
    assert found.without == pytest.approx(0.5, abs=0.01)
    assert found.gap == pytest.approx(0.5, abs=0.01)
    assert set(found.to_json()) == {"circuit", "model", "without", "gap"}


def test_minimality_is_what_each_edge_is_worth():
    found = minimality(CASE.model, CASE.pairs, [*TRUE, *IDLE])
    assert set(found.below_noise) <= {edge.name for edge in IDLE}
    runs = run_circuits(CASE.model, CASE.pairs, [[*TRUE, *IDLE], [*TRUE[1:], *IDLE]])
    loss = runs[0] - runs[1]
    assert found.effects[0] == pytest.approx(loss.mean(), abs=1e-6)
    assert found.errors[0] == pytest.approx(loss.std(ddof=1) / np.sqrt(len(loss)), abs=1e-6)
    assert minimality(CASE.model, CASE.pairs, []).share_below_noise == 0


@given(st.integers(1, 80), st.integers(0, 5), st.booleans())
def test_random_circuits_connect_input_to_logits(n, seed, parallel):
    anatomy = Anatomy(2, 3, 3, 12, 4, 8, parallel)
    found = random_circuit(layout_of(anatomy), n, seed)
    assert found == random_circuit(layout_of(anatomy), n, seed)
    assert found.connected() == found
    assert 1 <= len(found) <= n
    assert len(set(found)) == len(found)


def test_random_circuits_have_nearly_the_size_asked_for_and_differ_by_seed():
    anatomy = Anatomy(4, 4, 4, 12, 4, 8)
    assert all(len(random_circuit(layout_of(anatomy), 60, seed)) >= 57 for seed in range(5))
    assert set(random_circuit(layout_of(anatomy), 60, 0)) != set(
        random_circuit(layout_of(anatomy), 60, 1)
    )
    with pytest.raises(MethodError, match="at least 1"):
        random_circuit(layout_of(anatomy), 0, 0)


def test_chance_is_far_from_a_true_circuit():
    found = random_baseline(CASE.model, CASE.pairs, len(TRUE), times=5, seed=1)
    assert max(found.random) < 0.6
    assert found.spread == (min(found.random), max(found.random))
    assert len(found.to_json()["faithfulness"]) == 5


def test_circuits_of_few_and_of_most_edges_are_run_alike():
    every = list(edges(CASE.model.anatomy))
    circuits = [TRUE, [e for e in every if e not in TRUE[:2]], every[1:], every, []]
    seen = []
    running = Running(batch_size=5, progress=lambda *at: seen.append(at[:2]))
    found = measure(CASE.model, CASE.pairs, circuits, running)
    wanted = run_circuits(CASE.model, CASE.pairs, circuits)
    np.testing.assert_allclose(found.circuits, wanted, rtol=1e-4, atol=1e-4)
    total = len(circuits) * len(CASE.pairs)
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)
    with pytest.raises(SiteError):
        measure(CASE.model, CASE.pairs, [[*every[:-1], parse_edge("a1.h1->a0.h0<v>")]])
