"""The closed form of silencing a head equals silencing it, in every family; and costs less."""

import time

import numpy as np
import pytest
import torch

from circuits.directions import Groups, find_directions
from circuits.studies.emotion.parts import (
    Parts,
    ablated_head_scores,
    find_parts,
    head_scores,
    neuron_scores,
)
from patching.capture import Prompts, capture
from patching.model import Model
from tasks.errors import MethodError
from tests import families

PARALLEL = ("gpt_neox", "cohere")
CASES = [(family, after) for family in families.FAMILIES for after in (False, True)]


@pytest.fixture(scope="module")
def prompts():
    pairs = families.make_pairs()
    return Prompts(pairs.clean, pairs.mask)


def vectors(model):
    found = torch.randn(
        model.anatomy.n_layers,
        model.anatomy.d_model,
        generator=torch.Generator().manual_seed(0),
        dtype=model.dtype,
    )
    return found / found.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize(
    ("family", "after_norm"), [(f, after) for f, after in CASES if f not in PARALLEL or not after]
)
def test_closed_form_equals_silencing_every_head(family, after_norm, prompts):
    model = families.single(family)
    fast = head_scores(model, capture(model, prompts), vectors(model), after_norm)
    slow = ablated_head_scores(model, prompts, vectors(model), after_norm, batch_size=3)
    assert slow.abs().max() > 0.03
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)


def test_no_read_after_the_norm_where_the_mlp_does_not_read_attention(prompts):
    model = families.single("gpt_neox")
    with pytest.raises(MethodError, match="read before the norm"):
        head_scores(model, capture(model, prompts), vectors(model), after_norm=True)


def test_closed_form_is_at_least_twenty_times_cheaper():
    model = Model.open(families.build("gpt2", n_layer=8, n_head=8, n_embd=64, n_positions=64))
    pairs = families.make_pairs(n=16, length=48, padding=(0,))
    prompts, v = Prompts(pairs.clean, pairs.mask), vectors(model)
    start = time.process_time()
    ablated_head_scores(model, prompts, v)
    slow = time.process_time() - start
    fast = []
    for _ in range(3):
        start = time.process_time()
        head_scores(model, capture(model, prompts), v)
        fast.append(time.process_time() - start)
    assert slow > 20 * min(fast)


def test_a_neurons_score_is_what_the_read_out_loses_without_it(prompts):
    model = families.single("llama")
    captured, v = capture(model, prompts), vectors(model)
    found = neuron_scores(model, captured, v)
    for layer, neuron in [(0, 3), (1, 40)]:

        def silenced(kind, at, value, layer=layer, neuron=neuron):
            if (kind, at) == ("mlp_post", layer):
                value = value.clone()
                value[..., neuron] = 0
            return value

        lost = captured.resid_post - capture(model, prompts, tap=silenced).resid_post
        torch.testing.assert_close(
            found[:, layer, neuron], lost[:, layer] @ v[layer], atol=1e-5, rtol=1e-4
        )


def test_neurons_add_up_to_what_the_mlp_writes_under_a_post_norm(prompts):
    model = families.single("gemma2")
    captured, v = capture(model, prompts), vectors(model)
    written = captured.resid_post - captured.resid_mid
    torch.testing.assert_close(
        neuron_scores(model, captured, v).sum(-1),
        torch.einsum("nld,ld->nl", written, v),
        atol=1e-4,
        rtol=1e-4,
    )


def test_means_and_errors_are_over_the_prompts_of_a_label():
    model = families.single("gpt2")
    pairs = families.make_pairs(n=6)
    captured = capture(model, Prompts(pairs.clean, pairs.mask))
    groups = Groups.of(list("aabbcc"), list("xyxyxy"))
    directions = find_directions(captured, groups)
    found = find_parts(model, captured, groups, directions)
    assert isinstance(found, Parts)
    v = torch.tensor(directions.at("resid_mid")[1], dtype=torch.float32)
    ours = head_scores(model, captured[np.array([1, 3, 5])], v).numpy()
    np.testing.assert_allclose(found.heads[1], ours.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.head_errors[1], ours.std(0, ddof=1) / 3**0.5, rtol=0.3)
