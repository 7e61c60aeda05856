"""Neurons as senders and receivers, each against its definition, in every family that has them."""

import numpy as np
import pytest
import torch

from patching.ablation.run import baselines
from patching.circuit_run import run_circuits
from patching.nodes.edges import EdgeSet
from patching.nodes.layout import layout_of
from patching.scoring import score
from tasks.errors import MethodError, SiteError
from tests import definitions, families

PAIRS = families.make_pairs()[:3]
DENSE = [name for name in families.FAMILIES if name not in families.MIXTURES]


@pytest.fixture(params=DENSE)
def dense(request):
    return families.opened(request.param)


def neurons(model):
    return layout_of(model.anatomy, "neurons")


def blocks(scores, layer):
    """Scores of edges into one layer's neurons, and those of the edges into its MLP."""
    layout = scores.names.layout
    group = layout.receiver("neuron" if layout.nodes == "neurons" else "mlp", layer)
    return scores.values[group.edges].reshape(group.count, group.reads)


def test_all_edges_are_the_clean_run_and_none_the_corrupted(dense):
    layout = neurons(dense)
    full, empty = run_circuits(dense, PAIRS, [EdgeSet.all(layout), EdgeSet.none(layout)])
    clean, corrupted = baselines(dense, PAIRS)
    np.testing.assert_allclose(full, clean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(empty, corrupted, rtol=0, atol=1e-9)


def test_any_circuit_is_what_its_parts_compute(dense):
    layout, rng = neurons(dense), np.random.default_rng(0)
    batch = families.one_batch(dense, PAIRS)
    for density in (0.2, 0.7):
        some = EdgeSet(layout, rng.random(layout.n_edges) < density)
        (values,) = run_circuits(dense, PAIRS, [some])
        expected = definitions.circuit_metric(dense, batch, some)
        np.testing.assert_allclose(values, expected.numpy(), rtol=0, atol=1e-9)


def test_secants_between_neurons_sum_to_the_total(dense):
    scores = score(dense, PAIRS, "secant", nodes="neurons")
    assert abs(scores.completeness_error) < 1e-9 * max(1, abs(scores.total_effect))
    assert np.abs(scores.values).max() > 1e-3


@pytest.mark.parametrize("method", ["attribution", "secant", "relevance"])
def test_neurons_take_apart_what_their_mlp_reads_and_writes(dense, method):
    """Summed over a layer's neurons, edges into them and out of them are those of the whole MLP.

    Into them for all methods, since gradients add up; out of them to any later port.
    """
    fine, coarse = (score(dense, PAIRS, method, nodes=kind) for kind in ("neurons", "heads"))
    small, large = fine.names.layout, coarse.names.layout
    for layer in range(dense.anatomy.n_layers):
        into, whole = blocks(fine, layer).sum(0), blocks(coarse, layer)[0]
        heads = [large.group("head", i).slice for i in range(layer + 1)]
        for group in heads:
            stop = min(group.stop, len(whole))
            at = small.group("head", (group.start - 1) // (dense.anatomy.n_heads + 1)).start
            mine = into[at : at + max(stop - group.start, 0)]
            np.testing.assert_allclose(mine, whole[group.start : stop], rtol=0, atol=1e-9)
        np.testing.assert_allclose(into[0], whole[0], rtol=0, atol=1e-9)
        out, end = small.group("neuron", layer), large.group("mlp", layer)
        into_logits = fine.values[small.ports[-1].edges][out.slice].sum()
        expected = coarse.values[large.ports[-1].edges][end.start]
        assert into_logits == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_exact_effects_are_runs_with_one_edge_changed(direction):
    model = families.opened("llama")
    scores = score(model, PAIRS, "activation", direction=direction, nodes="neurons")
    layout, batch = neurons(model), families.one_batch(model, PAIRS)
    whole = EdgeSet.all(layout)
    start = whole if direction == "noising" else EdgeSet.none(layout)
    sign = 1 if direction == "noising" else -1
    base = definitions.circuit_metric(model, batch, start)
    for number in np.random.default_rng(0).choice(layout.n_edges, 8, replace=False):
        kept = start.kept.copy()
        kept[number] ^= True
        changed = definitions.circuit_metric(model, batch, EdgeSet(layout, kept))
        effect = sign * (base - changed).mean()
        assert scores.values[number] == pytest.approx(float(effect), abs=1e-9)


def test_nodes_are_heads_and_neurons():
    model = families.opened("gpt2")
    scores = score(model, PAIRS, "secant", "node", nodes="neurons")
    alone = score(model, PAIRS, "secant", "site", sites="neuron")
    assert len(scores) == neurons(model).n_senders
    for name in list(alone)[::7]:
        assert scores[name] == pytest.approx(alone[name], abs=1e-12)


def test_ablations_stand_in_for_neurons():
    """Under zero, what is cut off is a neuron that writes nothing."""
    model = families.opened("gpt2")
    layout = neurons(model)
    every = EdgeSet.all(layout)
    gone = EdgeSet.numbered(layout, np.array([layout.number("m1.n3->logits")]))
    (without,) = run_circuits(model, PAIRS, [every - gone], ablation="zero")
    batch = families.one_batch(model, PAIRS)
    values = definitions.values(model, batch, "clean")
    write = definitions.sender_write(model, values, layout.sender(layout.group("mlp", 1).start + 3))
    final = values["final_in", model.anatomy.n_layers] - write[:, -1]
    with torch.no_grad():
        expected = families.LOGIT_DIFF(model.unembed(final), batch.pairs)
    np.testing.assert_allclose(without, expected.numpy(), rtol=0, atol=1e-9)


def test_what_cannot_be_done_is_refused(monkeypatch):
    model = families.opened("gpt2")
    with pytest.raises(MethodError, match="exact_receivers are heads and whole MLPs"):
        score(model, PAIRS, "secant:exact_receivers=true", nodes="neurons")
    monkeypatch.setattr("patching.measure.MOST_EXACT", 10)
    with pytest.raises(MethodError, match=r"each of .* edges would be a run of the model"):
        score(model, PAIRS, "activation", nodes="neurons")
    monkeypatch.setattr("patching.measure.MOST_EDGES", 10)
    with pytest.raises(MethodError, match="at most 10 are scored"):
        score(model, PAIRS, nodes="neurons")
    with pytest.raises(SiteError, match="mixtures of experts"):
        score(families.opened("mixtral"), PAIRS, nodes="neurons")
