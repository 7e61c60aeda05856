"""Masked runs: circuits where masks are 0 and 1, and gradients that are those of autograd."""

import numpy as np
import pytest
import torch

from patching.circuit_run import run_wirings
from patching.learned import edges_run
from patching.learned.edges_run import EdgesRun
from patching.learned.inputs import Prepared, first_difference, inputs_of
from patching.learned.nodes_run import NodesRun
from patching.metrics import check_metric
from patching.nodes.edges import EdgeSet
from patching.nodes.layout import layout_of
from tests import families

METRIC = check_metric("logit_diff")

NEURONS = ("gpt2", "llama", "gemma2", "cohere")
"""Plain, gated, with a post-norm, and with attention beside the MLP."""


@pytest.fixture(params=["heads", "neurons"])
def layout(request, family, model):
    """The layout of the family's model, of either kind of nodes."""
    if request.param == "neurons" and family not in NEURONS:
        pytest.skip("neurons are read alike in the families that are tried")
    return layout_of(model.anatomy, request.param)


def run_of(kind, model, pairs, layout):
    """A masked run; over edges from the first column on that differs."""
    first = first_difference(pairs) if kind is EdgesRun else 0
    return kind(model, layout, inputs_of(model, pairs, layout, METRIC, first))


def random_masks(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, generator=generator, dtype=torch.float64)


def loss_of(pairs):
    """Something curved, so that gradients depend on the logits."""
    return lambda logits: (METRIC(logits, pairs) - 0.3).square().mean()


@pytest.mark.parametrize("density", [0.0, 0.5, 1.0])
def test_edges_kept_or_not_are_the_circuit(model, pairs, layout, density):
    drawn = np.random.default_rng(0).random(layout.n_edges) < density
    masks = torch.tensor(drawn, dtype=torch.float64)
    found = METRIC(run_of(EdgesRun, model, pairs, layout).logits(masks), pairs)
    (wanted,) = run_wirings(model, pairs, [EdgeSet(layout, drawn)])
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("density", [0.4, 0.8])
def test_nodes_kept_or_not_are_the_circuit_of_all_edges_among_them(model, pairs, layout, density):
    drawn = np.random.default_rng(1).random(layout.n_senders) < density
    drawn[-1] = True
    sites = [site for site, kept in zip(layout.sending, drawn, strict=True) if kept]
    masks = torch.tensor(drawn, dtype=torch.float64)
    found = METRIC(run_of(NodesRun, model, pairs, layout).logits(masks), pairs)
    (wanted,) = run_wirings(model, pairs, [EdgeSet.among(sites, model.anatomy)])
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=1e-12)


def through_the_graph(run, masks):
    """The logits with every edge in autograd's graph: each sender's change is a tensor of its own.

    The slow way that the run avoids: every read is a sum over senders, one after another.
    """
    off = run.inputs.off["input", 0]
    changes = {0: run.inputs.clean_input - off}

    def read(look):
        rows = []
        for unit in range(look.group.count)[look.units]:
            start = look.group.start + unit * look.group.reads
            x = look.off
            for sender in range(look.group.reads):
                change = changes[sender]
                short = change.shape[1] == look.off.shape[1]
                x = x + masks[start + sender] * (change if short else change[:, look.at])
            rows.append(x)
        return torch.stack(rows)

    for step in run._steps():
        made = step.made(*(read(look) for look in step.looks))
        changes |= dict(enumerate(made, start=step.writes.start))
    return run.model.unembed(read(run._end())[0, :, 0])


def test_gradients_at_edges_are_those_of_autograd(model, pairs):
    layout = layout_of(model.anatomy)
    run = run_of(EdgesRun, model, pairs, layout)
    masks = random_masks(layout.n_edges)
    leaf = masks.clone().requires_grad_()
    wanted = loss_of(pairs)(through_the_graph(run, leaf))
    (slopes,) = torch.autograd.grad(wanted, [leaf])
    loss, found = run.gradient(masks, loss_of(pairs))
    assert float(loss) == pytest.approx(float(wanted.detach()), abs=1e-12)
    assert slopes.abs().max() > 1e-3
    np.testing.assert_allclose(found.numpy(), slopes.numpy(), rtol=1e-9, atol=1e-12)


def steepest(run, masks, found, pairs, count=3, step=1e-5):
    """Central differences at the masks with the largest gradients, and at some at random."""
    loss = loss_of(pairs)
    largest = found.abs().argsort(descending=True)[:count].tolist()
    for at in {*largest, 0, len(masks) // 2, len(masks) - 1}:
        ends = []
        for sign in (1, -1):
            moved = masks.clone()
            moved[at] += sign * step
            ends.append(float(loss(run.logits(moved))))
        yield at, (ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize("kind", [EdgesRun, NodesRun])
def test_gradients_are_central_differences(model, pairs, layout, kind):
    run = run_of(kind, model, pairs, layout)
    masks = random_masks(layout.n_edges if kind is EdgesRun else layout.n_senders)
    _, found = run.gradient(masks, loss_of(pairs))
    for at, wanted in steepest(run, masks, found, pairs):
        # The error of a central difference is of the order of its squared step.
        assert float(found[at]) == pytest.approx(wanted, rel=1e-6, abs=1e-8)


def test_small_chunks_of_receivers_change_nothing(model, pairs, layout, monkeypatch):
    run = run_of(EdgesRun, model, pairs, layout)
    masks = random_masks(layout.n_edges)
    whole = run.gradient(masks, loss_of(pairs))
    monkeypatch.setattr(edges_run, "CHUNK_BYTES", 20_000)
    parts = run.gradient(masks, loss_of(pairs))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-9, atol=1e-13)


def test_mixtures_of_experts_train_their_mlps_whole(pairs):
    model = families.opened("mixtral")
    layout = layout_of(model.anatomy)
    run = run_of(EdgesRun, model, pairs, layout)
    masks = random_masks(layout.n_edges)
    _, found = run.gradient(masks, loss_of(pairs))
    for at, wanted in steepest(run, masks, found, pairs):
        assert float(found[at]) == pytest.approx(wanted, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("limit", [0, 2**28])
def test_pairs_are_the_same_whether_their_runs_are_kept_or_not(pairs, monkeypatch, limit):
    monkeypatch.setattr("patching.learned.inputs.KEPT_BYTES", limit)
    model = families.opened("gpt2")
    layout = layout_of(model.anatomy)
    rows = np.array([3, 1])
    some = Prepared(model, pairs, layout, METRIC, logits=True).at(rows)
    alone = inputs_of(model, pairs[rows], layout, METRIC, logits=True)
    np.testing.assert_allclose(some.full.numpy(), alone.full.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(some.log_empty.numpy(), alone.log_empty.numpy(), atol=1e-12)
    masks = random_masks(layout.n_edges)
    found = [EdgesRun(model, layout, each).logits(masks).numpy() for each in (some, alone)]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-12)
