"""Circuits run against a definition that computes each part from what it reads."""

import numpy as np
import pytest
import torch

from patching.ablation.run import baselines
from patching.circuit_run import run_circuit, run_circuits
from patching.nodes.edges import EdgeSet, edges
from patching.nodes.layout import nodes
from patching.scoring import score
from patching.sites import parse_site
from tasks.errors import MethodError, SiteError
from tests import definitions, families


def all_edges(model):
    return list(edges(model.anatomy))


def random_circuits(model, densities=(0.1, 0.4, 0.8, 0.95), seed=0):
    rng = np.random.default_rng(seed)
    every = all_edges(model)
    return [[edge for edge in every if rng.random() < density] for density in densities]


def test_all_edges_are_the_clean_run_and_none_the_corrupted(model, pairs):
    clean, corrupted = baselines(model, pairs)
    full, empty = run_circuits(model, pairs, [all_edges(model), []])
    np.testing.assert_allclose(full, clean, rtol=0, atol=1e-5)
    np.testing.assert_allclose(empty, corrupted, rtol=0, atol=1e-6)
    assert np.abs(clean - corrupted).max() > 0.01


def test_any_circuit_is_what_its_parts_compute(model, pairs):
    circuits = random_circuits(model)
    found = run_circuits(model, pairs, circuits)
    batch = families.one_batch(model, pairs)
    for values, circuit in zip(found, circuits, strict=True):
        expected = definitions.circuit_metric(model, batch, circuit)
        np.testing.assert_allclose(values, expected.numpy(), rtol=0, atol=1e-5)


def test_circuits_of_one_port_are_what_their_parts_compute(model, pairs):
    """Each port alone, so that no port can pass for another."""
    batch = families.one_batch(model, pairs)
    for port in ("q", "k", "v"):
        circuit = [edge for edge in all_edges(model) if edge.port in (port, None)]
        found = run_circuit(model, pairs, circuit)
        expected = definitions.circuit_metric(model, batch, circuit)
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-5)


def test_leaving_out_one_edge_into_the_logits_is_its_exact_effect(model, pairs):
    every = all_edges(model)
    last = [edge for edge in every if edge.receiver.kind == "logits"]
    exact = score(model, pairs, "activation", "edge", "noising")
    clean, _ = baselines(model, pairs)
    without = run_circuits(model, pairs, [[e for e in every if e != left] for left in last])
    for edge, values in zip(last, without, strict=True):
        assert (clean - values).mean() == pytest.approx(exact[edge.name], abs=1e-5)


def test_one_edge_into_the_logits_alone_is_its_denoising_effect_of_the_input(model, pairs):
    """Only the input sends something new when nothing else is wired."""
    exact = score(model, pairs, "activation", "edge", "denoising")
    _, corrupted = baselines(model, pairs)
    alone = run_circuit(model, pairs, ["input->logits"])
    assert (alone - corrupted).mean() == pytest.approx(exact["input->logits"], abs=1e-5)
    cut_off = run_circuit(model, pairs, ["m0->logits", "a1.h2->logits"])
    np.testing.assert_allclose(cut_off, corrupted, rtol=0, atol=1e-6)


def test_batches_change_nothing(model):
    pairs = families.make_pairs(n=7, padding=(0, 4, 2, 3, 3, 1, 4))
    circuits = random_circuits(model, (0.5, 0.9), seed=1)
    whole = run_circuits(model, pairs, circuits)
    for size in (1, 3):
        parts = run_circuits(model, pairs, circuits, batch_size=size)
        np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-5)


def test_names_and_edges_are_the_same_circuit(gpt2, pairs):
    (circuit,) = random_circuits(gpt2, (0.5,))
    by_name = run_circuit(gpt2, pairs, [edge.name for edge in circuit])
    assert np.array_equal(by_name, run_circuit(gpt2, pairs, reversed(circuit)))


def test_another_metric_and_progress(gpt2, pairs):
    seen = []
    clean, _ = baselines(gpt2, pairs, "prob_diff")
    found = run_circuits(
        gpt2, pairs, [all_edges(gpt2)], "prob_diff", 2, lambda *at: seen.append(at[:2])
    )
    np.testing.assert_allclose(found[0], clean, rtol=0, atol=1e-5)
    assert seen == [(0, 5), (2, 5), (4, 5), (5, 5)]


def test_all_nodes_induce_all_edges(model):
    a = model.anatomy
    assert set(EdgeSet.among(nodes(a), a)) == set(all_edges(model))
    few = [parse_site(name) for name in ("input", "a1.h2", "m0")]
    names = {edge.name for edge in EdgeSet.among(few, a)}
    ports = {f"{sender}->a1.h2<{port}>" for sender in ("input", "m0") for port in "qkv"}
    assert names == ports | {"input->m0", "input->logits", "m0->logits", "a1.h2->logits"}


def test_edges_that_this_model_cannot_have(gpt2, pairs):
    with pytest.raises(SiteError, match=r"'a9\.h0'.*layers are 0 to 1.*nearest is 'a1\.h0'"):
        run_circuit(gpt2, pairs, ["input->logits", "a9.h0->logits"])
    with pytest.raises(SiteError, match=r"m1 does not come after m1"):
        run_circuit(gpt2, pairs, ["m1->m1"])


def test_a_metric_that_is_wrong_is_refused(gpt2, pairs):
    with pytest.raises(MethodError, match="unknown metric 'logit_diffs'; did you mean"):
        run_circuit(gpt2, pairs, [], "logit_diffs")
    with pytest.raises(MethodError, match=r"shape \(5,\); it gave \(\)"):
        run_circuit(gpt2, pairs, [], lambda logits, pairs: logits.sum())


def test_the_model_is_as_before(gpt2, pairs):
    batch = families.one_batch(gpt2, pairs)
    with torch.no_grad():
        before = gpt2.run(batch.clean, batch.mask)
        run_circuits(gpt2, pairs, random_circuits(gpt2))
        assert torch.equal(gpt2.run(batch.clean, batch.mask), before)
