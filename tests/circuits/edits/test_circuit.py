"""A circuit as an edit: kept, removed, scaled, with any ablation outside, also while generating."""

import numpy as np
import pytest
import torch

import circuits
from circuits.edits import edit as e
from circuits.edits.live import editing
from patching.circuit_run import run_circuit
from patching.metrics import check_metric
from patching.nodes.edges import edges
from tasks.errors import EditError
from tests.families import make_pairs, opened

PADDING = (0, 0, 2, 2, 0)


@pytest.fixture(scope="module")
def pairs():
    return make_pairs(padding=PADDING)


@pytest.fixture(scope="module")
def graph(pairs):
    model = opened("gpt2")
    return circuits.discover(pairs, model=model, method="attribution", top=30)


def measured(logits, pairs):
    return check_metric("logit_diff")(logits, pairs).numpy()


@pytest.mark.parametrize(
    "ablation", ["corrupted", "zero", "mean", "mean-by-position", "mean-by-token", "resample:1"]
)
def test_keeping_a_circuit_is_running_it_alone(graph, pairs, ablation):
    model = opened("gpt2")
    with editing(model, e.keep(graph, ablation)) as edited:
        found = measured(edited.logits(pairs), pairs)
    wanted = run_circuit(model, pairs, graph.edges, ablation=ablation)
    assert np.allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2"])
def test_removing_a_circuit_is_running_all_other_edges(family, pairs):
    model = opened(family)
    graph = circuits.discover(pairs, model=model, method="attribution", top=25)
    others = [edge.name for edge in edges(model.anatomy) if edge.name not in graph]
    with editing(model, e.remove(graph)) as edited:
        found = measured(edited.logits(pairs), pairs)
    assert np.allclose(found, run_circuit(model, pairs, others), atol=1e-3)


def test_scaling_goes_from_removed_through_unchanged(graph, pairs):
    model = opened("gpt2")
    plain = model.run(torch.tensor(pairs.clean), torch.tensor(pairs.mask))
    with editing(model, e.scale(graph, 1.0)) as edited:
        assert torch.allclose(edited.logits(pairs), plain, atol=1e-4)
    with editing(model, e.scale(graph, 1.5)) as edited:
        more = edited.logits(pairs)
    assert float((more - plain).abs().max()) > 1e-2


def test_a_circuit_holds_while_generating(graph, pairs):
    model = opened("gpt2")
    with editing(model, e.keep(graph)) as edited:
        found = edited.generate_pairs(pairs, 3)
        first = edited.logits(pairs).argmax(-1).numpy()
        with pytest.raises(EditError, match="two runs"):
            edited.run(torch.tensor(pairs.clean), torch.tensor(pairs.mask))
    assert found.shape == (len(pairs), 3)
    assert found[:, 0].tolist() == first.tolist()


def test_circuits_do_not_mix_with_activation_edits(graph):
    model = opened("gpt2")
    mixed = editing(model, [e.keep(graph), e.scale("m0", 0.5)])
    with pytest.raises(EditError, match="weight edits alone"), mixed:
        pass
    with editing(model, [e.keep(graph), e.scale("a0.h1", 0.5)]) as edited:
        assert edited.circuit is not None
