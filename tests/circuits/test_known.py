"""Models whose circuit is known: every method must tell its edges from all others."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from circuits.evaluation.areas import faithfulness
from circuits.evaluation.reference import agreement, auroc
from graphs import top_edges
from patching.ablation.run import baselines
from patching.circuit_run import run_circuit
from patching.scoring import score
from tests.known import compiled, interchange

COMPILED = {"induction": compiled.induction, "parity": compiled.parity}


@cache
def known(name):
    return COMPILED[name]()


def recovered(model, pairs, edges):
    full, empty = baselines(model, pairs)
    kept = run_circuit(model, pairs, edges)
    return faithfulness(full.mean(), empty.mean(), kept.mean())


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_model_does_its_task_by_its_circuit_alone(name):
    case = known(name)
    full, empty = baselines(case.model, case.pairs)
    assert full.min() > 3.9
    assert empty.max() < -3.9
    assert recovered(case.model, case.pairs, case.edges) == pytest.approx(1, abs=1e-4)
    for edge in case.edges:
        assert recovered(case.model, case.pairs, case.edges - {edge}) < 0.6


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_exact_scores_find_a_compiled_circuit(name, direction):
    case = known(name)
    exact = score(case.model, case.pairs, "activation", direction=direction)
    if direction == "noising":
        assert auroc(exact, case.edges) == 1.0
        found = top_edges(exact, len(case.edges))
        assert agreement(found, case.edges).jaccard == 1.0
    else:
        # A value restored alone is read in a corrupted context: only the last step shows surely.
        last = [edge for edge in case.edges if edge.endswith("->logits")]
        assert auroc(exact, last) == 1.0


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("method", ["attribution", "relevance", "secant", "ig"])
def test_estimates_find_a_compiled_circuit(name, method):
    case = known(name)
    assert auroc(score(case.model, case.pairs, method), case.edges) == 1.0


@pytest.mark.parametrize("name", COMPILED)
def test_learned_masks_find_a_compiled_circuit(name):
    case = known(name)
    learned = score(case.model, case.pairs, "learned", steps=100)
    assert auroc(learned, case.edges) == 1.0


def test_learned_masks_find_the_interchange_trained_circuit():
    learned = score(interchange.opened(), interchange.pairs(), "learned", steps=100)
    assert auroc(learned, interchange.CIRCUIT) == 1.0


def test_a_score_off_by_one_edge_is_noticed():
    case = known("parity")
    exact = score(case.model, case.pairs, "activation")
    index = exact.names.index("a0.h0->m0")
    totals = exact.totals.copy()
    totals[index] = 0.0
    assert auroc(replace(exact, totals=totals), case.edges) < 1.0


def test_the_interchange_trained_model_does_its_task_by_its_circuit():
    model, pairs = interchange.opened(), interchange.pairs()
    full, _ = baselines(model, pairs)
    assert full.min() > 5
    assert recovered(model, pairs, interchange.CIRCUIT) > 0.95
    exact = score(model, pairs, "activation")
    inside = [exact[edge] for edge in interchange.CIRCUIT]
    outside = [exact[edge] for edge in exact if edge not in interchange.CIRCUIT]
    assert min(inside) > 20 * max(np.abs(outside))


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_cheap_methods_find_the_interchange_trained_circuit(direction):
    model, pairs = interchange.opened(), interchange.pairs()
    found = {
        method: auroc(score(model, pairs, method, direction=direction), interchange.CIRCUIT)
        for method in ("secant", "relevance", "ig")
    }
    assert min(found.values()) >= 0.95
    assert found["secant"] >= found["ig"]


def test_the_recipe_computes_what_the_model_computes():
    model = interchange.train(steps=2)
    network = interchange.Network(model)
    generator = torch.Generator().manual_seed(0)
    clean, other = (interchange.prompts(8, generator) for _ in range(2))
    with torch.no_grad():
        plain, off = network.run(other, [], {})
        assert torch.allclose(plain, model(other).logits[:, -1], atol=1e-5)
        kept = {
            receiver: torch.ones(8, ports, len(interchange.SENDERS))
            for receiver, ports in interchange._receivers()
        }
        mixed, _ = network.run(clean, off, kept)
        assert torch.allclose(mixed, model(clean).logits[:, -1], atol=1e-5)
    assert (interchange.answer(clean, other, kept) == clean[:, 1:4].sum(1) % 6).all()


def test_the_recipe_is_deterministic():
    one, two = (interchange.train(steps=3).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
