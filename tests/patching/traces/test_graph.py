"""Direct effects against runs of the linear model, node by node, on every family."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.places import parse_place
from patching.model import Model
from patching.traces.graph import trace_prompt
from patching.traces.linear import linear_run
from patching.traces.nodes import ERROR, LATENT, LOGIT, TOKEN
from patching.traces.replaced import Replaced
from tasks.errors import MethodError, SiteError, TaskError
from tests import families
from tests.patching.dictionaries.build import dictionary

READS = ("mlp_normed", "mlp_in", "mlp_scaled")


def transcoders(first="topk", second="jumprelu", reads=("mlp_normed", "mlp_in")):
    return [
        dictionary("mlp_out.0", first, reads=f"{reads[0]}.0", skip=True),
        dictionary("mlp_out.1", second, reads=f"{reads[1]}.1", seed=2),
    ]


def prompts(pairs):
    row = int(pairs.mask.sum(1).argmax())
    return torch.tensor(pairs.clean[row]), torch.tensor(pairs.corrupted[row])


def test_direct_effects_and_constants_sum_to_targets(model, pairs):
    clean, corrupted = prompts(pairs)
    for other in (None, corrupted):
        replaced = Replaced.of(model, clean, transcoders(), other)
        found = trace_prompt(replaced, batch_size=7).adjacency
        assert len(found.nodes.targets) > 20
        assert np.abs(found.pre).max() > 0.5
        assert found.gap < 1e-7


def test_without_a_node_targets_move_by_its_column(model, pairs):
    """The slow definition: one run of the linear model for each node, without autograd."""
    replaced = Replaced.of(model, prompts(pairs)[0], transcoders())
    found = trace_prompt(replaced, batch_size=16).adjacency
    nodes, every = found.nodes, np.ones(len(found.nodes))
    own = linear_run(replaced, nodes, every).targets(replaced, nodes)
    np.testing.assert_allclose(own, found.pre, atol=1e-10)
    for number in range(0, nodes.n_sources, 9):
        without = every.copy()
        without[number] = 0.0
        moved = own - linear_run(replaced, nodes, without).targets(replaced, nodes)
        np.testing.assert_allclose(found.effects[:, number], moved, atol=1e-9)


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("kind", ["relu", "topk", "jumprelu", "gated"])
def test_with_twice_of_a_node_targets_move_by_its_column(gpt2, pairs, kind, reads):
    """The test of circuit-tracer, for every kind of encoder and every place that one reads."""
    given = transcoders(kind, kind, (reads, reads))
    replaced = Replaced.of(gpt2, prompts(pairs)[0], given)
    found = trace_prompt(replaced).adjacency
    nodes, every = found.nodes, np.ones(len(found.nodes))
    latents = nodes.of(LATENT)[: nodes.n_sources]
    number = int((np.abs(found.effects).sum(0) * latents).argmax())
    every[number] = 2.0
    moved = linear_run(replaced, nodes, every).targets(replaced, nodes) - found.pre
    np.testing.assert_allclose(found.effects[:, number], moved, atol=1e-9)
    assert np.abs(moved).max() > 1e-3


def test_a_pair_needs_queries_and_keys(gpt2, pairs):
    """With patterns and scales of the clean run alone, differences are not explained."""
    clean, corrupted = prompts(pairs)
    whole = Replaced.of(gpt2, clean, transcoders(), corrupted)
    frozen = replace(whole, ops=Replaced.of(gpt2, clean, transcoders()).ops)
    assert trace_prompt(whole).adjacency.gap < 1e-9
    assert trace_prompt(frozen).adjacency.gap > 0.05


def test_relu_mlps_as_transcoders_leave_no_error():
    """Then the graph is the graph of neurons, and all influence comes from tokens."""
    hf = families.build("gpt2", activation_function="relu").double()
    model, pairs = Model.open(hf, dtype=torch.float64), families.make_pairs()
    own = [
        Dictionary(
            reads=parse_place(f"mlp_normed.{i}"),
            writes=parse_place(f"mlp_out.{i}"),
            activation="relu",
            W_enc=layer.mlp.c_fc.weight.data.clone(),
            b_enc=layer.mlp.c_fc.bias.data.clone(),
            W_dec=model.blocks[i].W_out.detach().clone(),
            b_dec=layer.mlp.c_proj.bias.data.clone(),
            b_in=torch.zeros(32, dtype=torch.float64),
        )
        for i, layer in enumerate(hf.transformer.h)
    ]
    found = trace_prompt(Replaced.of(model, prompts(pairs)[0], own)).adjacency
    errors = found.nodes.of(ERROR)[: found.nodes.n_sources]
    assert np.abs(found.effects[:, errors]).max() < 1e-12
    assert found.gap < 1e-9


def test_batches_and_the_order_of_dictionaries_change_nothing(gpt2, pairs):
    ids = prompts(pairs)[0]
    one = trace_prompt(Replaced.of(gpt2, ids, transcoders()), batch_size=1).adjacency
    other = trace_prompt(Replaced.of(gpt2, ids, transcoders()[::-1]), batch_size=50).adjacency
    np.testing.assert_allclose(one.effects, other.effects, atol=1e-12)


def test_what_is_not_chosen_counts_as_error(gpt2, pairs):
    replaced = Replaced.of(gpt2, prompts(pairs)[0], transcoders())
    whole = trace_prompt(replaced, batch_size=4)
    part = trace_prompt(replaced, most=30, batch_size=4)
    assert (part.active, int(part.adjacency.nodes.of(LATENT).sum())) == (whole.active, 30)
    assert part.adjacency.gap < 1e-9
    for kind in (TOKEN, LOGIT):
        assert part.adjacency.nodes.of(kind).sum() == whole.adjacency.nodes.of(kind).sum()


def test_an_mlp_without_transcoder_is_all_error(gpt2, pairs):
    found = trace_prompt(Replaced.of(gpt2, prompts(pairs)[0], transcoders()[1:])).adjacency
    assert not (found.nodes.of(LATENT) & (found.nodes.layer == 0)).any()
    assert found.gap < 1e-9


def test_logits_are_those_asked_for(gpt2, pairs):
    ids = prompts(pairs)[0]
    found = trace_prompt(Replaced.of(gpt2, ids, transcoders()), [5, 3]).adjacency
    assert found.nodes.unit[found.nodes.of(LOGIT)].tolist() == [3, 5]
    logits = gpt2.run(ids[None], torch.ones(1, len(ids), dtype=torch.bool))[0]
    centred = (logits - logits.mean())[[3, 5]].detach().numpy()
    np.testing.assert_allclose(found.pre[-2:], centred, atol=1e-9)


def test_what_cannot_be_replaced_is_refused(gpt2, pairs):
    clean, corrupted = prompts(pairs)
    for given, error, told in (
        ([dictionary("resid_post.0")], SiteError, "no transcoder of an MLP"),
        (transcoders()[:1] * 2, MethodError, "two transcoders of m0"),
        ([dictionary("mlp_out.1", reads="mlp_in.0")], SiteError, "does not come before"),
    ):
        with pytest.raises(error, match=told):
            Replaced.of(gpt2, clean, given)
    with pytest.raises(TaskError, match="one length"):
        Replaced.of(gpt2, clean, transcoders(), corrupted[:-1])
    with pytest.raises(TaskError, match="nothing differs"):
        Replaced.of(gpt2, clean, transcoders(), clean)
    with pytest.raises(MethodError, match="batch size is 0"):
        trace_prompt(Replaced.of(gpt2, clean, transcoders()), batch_size=0)
