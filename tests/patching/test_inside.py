"""Scores inside a circuit: the first-order ones of the whole model, and sums that are exact."""

import numpy as np
import pytest

from patching.circuit_run import run_circuits
from patching.inside import inside_scores
from patching.nodes.edges import edges
from patching.scoring import score
from tasks.errors import MethodError, SiteError


def some_edges(model, share, seed=0):
    rng = np.random.default_rng(seed)
    return [edge.name for edge in edges(model.anatomy) if rng.random() < share]


def test_in_the_whole_model_they_are_edge_attribution(model, pairs):
    whole = inside_scores(model, pairs, edges(model.anatomy), steps=0)
    plain = score(model, pairs, "attribution", level="edge")
    assert whole.names == plain.names
    largest = np.abs(plain.values).max()
    assert np.abs(whole.values - plain.values).max() < 1e-5 * max(1, largest)
    assert whole.standard_error == pytest.approx(plain.standard_error, abs=1e-5 * max(1, largest))


def test_they_add_up_to_what_the_circuit_recovers(model, pairs):
    circuit = some_edges(model, 0.4)
    found = inside_scores(model, pairs, circuit, steps=40)
    kept, empty = run_circuits(model, pairs, [circuit, []]).mean(axis=1)
    assert found.total_effect == pytest.approx(kept - empty, abs=1e-6)
    assert found.values.sum() == pytest.approx(kept - empty, abs=2e-3 * max(1, abs(kept - empty)))


def test_names_are_the_circuits_and_batches_change_nothing(gpt2, pairs):
    circuit = some_edges(gpt2, 0.2)
    whole = inside_scores(gpt2, pairs, circuit)
    parts = inside_scores(gpt2, pairs, reversed(circuit), batch_size=2)
    assert set(whole.names) == set(circuit)
    assert parts.names == whole.names
    assert parts.values == pytest.approx(whole.values, abs=1e-6)


def test_edges_that_reach_nothing_score_zero(gpt2, pairs):
    found = inside_scores(gpt2, pairs, ["input->m0", "input->a0.h0<v>", "a0.h0->logits"])
    assert found["input->m0"] == 0
    assert found["input->a0.h0<v>"] != 0
    assert found["a0.h0->logits"] != 0


def test_bad_input(gpt2, pairs):
    with pytest.raises(MethodError, match="nothing to score"):
        inside_scores(gpt2, pairs, [])
    with pytest.raises(SiteError):
        inside_scores(gpt2, pairs, ["input->m99"])
