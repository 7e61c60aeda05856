"""Models that are linear: there every method is exact, and a toy's numbers are known by hand."""

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from patching import run_circuits
from patching.methods import EFFECTS
from patching.model import Model
from patching.nodes.edges import edges
from patching.scoring import score
from tasks.pairs import PromptPairs
from tests import families

VARIANTS = (
    "attribution:qk_fix=true",
    "ig:on=activations+steps=2",
    "ig:on=activations+steps=2+qk_fix=true",
    "secant:share=0.5+qk_fix=true",
)

FLAT = 1e8
"""A norm with this added to its variance divides everything by the same number."""


def linear_model(family, seed):
    """A model whose only steps are linear maps: flat norms, identity activations, fixed patterns.

    Queries and keys read nothing but their biases, so that the pattern depends on positions alone
    (and is uneven where there is rotary embedding).
    """
    changes = {
        "gpt2": {"activation_function": "linear", "layer_norm_epsilon": FLAT},
        "gpt_neox": {"hidden_act": "linear", "layer_norm_eps": FLAT},
    }
    hf = families.build(family, seed=seed, **changes[family]).double()
    d_model = hf.config.hidden_size
    for name, weight in hf.named_parameters():
        if ("ln_" in name or "layernorm" in name or "layer_norm" in name) and "weight" in name:
            weight.data *= FLAT**0.5
        if name.endswith("c_attn.weight"):
            weight.data[:, : 2 * d_model] = 0
        if name.endswith("query_key_value.weight"):
            d_head = d_model // hf.config.num_attention_heads
            by_head = weight.data.unflatten(0, (-1, 3 * d_head))
            by_head[:, : 2 * d_head] = 0
        if name.endswith(("c_attn.bias", "query_key_value.bias")):
            weight.data *= 5
    return Model.open(hf, dtype=torch.float64)


@settings(max_examples=4, phases=[Phase.generate])
@given(
    family=st.sampled_from(["gpt2", "gpt_neox"]),
    seed=st.integers(0, 10**6),
    direction=st.sampled_from(["noising", "denoising"]),
)
def test_on_a_linear_model_every_method_is_exact(family, seed, direction):
    model, pairs = linear_model(family, seed), families.make_pairs(seed=seed)
    kinds = ["resid_pre", "attn_out", "resid_post", "z", "q", "k", "v", "pattern", "neuron"]
    wanted = [
        {"level": "node"},
        {"level": "edge"},
        {"level": "attention_edge", "positions": "named"},
    ]
    wanted += [{"level": "site", "sites": k, "positions": "named"} for k in kinds]
    largest = score(model, pairs, "activation", "node", direction)
    assert largest["input"] == pytest.approx(largest.total_effect, rel=1e-5)
    for each in wanted:
        exact = score(model, pairs, "activation", direction=direction, **each)
        scale = np.abs(largest.values).max()
        for method in (*EFFECTS, *VARIANTS):
            found = score(model, pairs, method, direction=direction, **each)
            np.testing.assert_allclose(
                found.values, exact.values, rtol=0, atol=1e-5 * scale, err_msg=f"{method} {each}"
            )


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_on_a_linear_model_exact_edges_of_a_cut_add_up_to_the_total(family, direction):
    model, pairs = linear_model(family, seed=1), families.make_pairs()
    exact = score(model, pairs, "activation", "edge", direction)
    assert abs(exact.values).max() > 1e-3
    for end in ("input->", "->logits"):
        cut = sum(exact[name] for name in exact if end in name)
        assert cut == pytest.approx(exact.total_effect, rel=1e-5)


def micro_model():
    """Two layers of two 'heads' that multiply [x, y] by [1, 2] and by [3, 4], added to the stream.

    A Llama of width 2 on one token: the pattern is 1, values are scaled by the head's numbers,
    outputs are copied, MLPs are silent, norms are flat, logits are the stream itself.
    """
    hf = families.build(
        "llama",
        vocab_size=2,
        hidden_size=2,
        intermediate_size=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=2,
        rms_norm_eps=1e10,
        tie_word_embeddings=False,
    )
    hf.model.embed_tokens.weight.data = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    hf.lm_head.weight.data = torch.eye(2)
    for name, weight in hf.named_parameters():
        if name.endswith(("norm.weight", "layernorm.weight")):
            weight.data[:] = 1e5
    for layer in hf.model.layers:
        attention = layer.self_attn
        attention.v_proj.weight.data = torch.cat([torch.diag(torch.tensor(w)) for w in HEADS])
        attention.o_proj.weight.data = torch.cat([torch.eye(2), torch.eye(2)], dim=1)
        layer.mlp.down_proj.weight.data[:] = 0
    return Model.open(hf)


HEADS = ([1.0, 2.0], [3.0, 4.0])


def first_logit(logits, pairs):
    return logits[:, 0]


def second_logit(logits, pairs):
    return logits[:, 1]


@pytest.fixture(scope="module")
def micro():
    """The toy, with the clean run on [-1, -1] and the corrupted run on [1, 1]."""
    pairs = PromptPairs.from_tokens(clean=[[1]], corrupted=[[0]], answer=[0], counterfactual=[1])
    return micro_model(), pairs


def test_the_micro_model_gives_its_known_outputs(micro):
    """Cutting edges one after the other, as in AutoCircuit's own tests."""
    model, pairs = micro
    cuts = ["a0.h1->logits", "a0.h0->a1.h1<v>", "input->a0.h0<v>"]
    circuits = [
        [edge for edge in edges(model.anatomy) if edge.name not in cuts[:count]]
        for count in range(4)
    ]
    circuits.append([])
    outputs = [
        run_circuits(model, pairs, circuits, metric)[:, 0] for metric in (first_logit, second_logit)
    ]
    expected = [[-25, -49], [-19, -41], [-13, -25], [-9, -13], [25, 49]]
    np.testing.assert_allclose(np.stack(outputs, axis=1), expected, rtol=1e-5)


@pytest.mark.parametrize("method", EFFECTS)
def test_the_micro_model_has_its_known_edges(micro, method):
    """Each path multiplies its heads' numbers; the stream goes from 1 to -1, a change of -2."""
    model, pairs = micro
    expected = {
        "input->logits": [1, 1],
        "a0.h1->logits": [3, 4],
        "a0.h0->a1.h1<v>": [1 * 3, 2 * 4],
        "a0.h1->a1.h1<v>": [3 * 3, 4 * 4],
        "input->a1.h0<v>": [1, 2],
        "input->a0.h0<v>": [1 * (1 + 1 + 3), 2 * (1 + 2 + 4)],
        "a0.h0->a1.h1<q>": [0, 0],
        "m0->a1.h0<v>": [0, 0],
    }
    for i, metric in enumerate((first_logit, second_logit)):
        scores = score(model, pairs, method, "edge", metric=metric)
        for name, values in expected.items():
            assert scores[name] == pytest.approx(-2 * values[i], rel=1e-4, abs=1e-4), name
