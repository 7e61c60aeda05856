"""Models that cannot be taken apart: the true reason, the nearest family, and nothing leaked."""

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from patching.families import known
from patching.families.refusals import REASONS
from patching.model import Model
from tasks.errors import ModelError
from tests import families

BASE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
}
REFUSED = {
    "mamba": ({"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 1}, "recurrent state"),
    "rwkv": ({"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2}, "recurrent state"),
    "falcon_h1": (BASE, "recurrent state"),
    "lfm2": (BASE, "short convolutions"),
    "diffllama": (BASE, "subtracts two attention patterns"),
    "bitnet": (BASE, "outputs of all heads together"),
    "phimoe": (BASE | {"num_local_experts": 4}, "SparseMixer"),
    "openai-gpt": ({"vocab_size": 61, "n_embd": 32, "n_layer": 2, "n_head": 4}, "stream itself"),
    "llama4_text": (BASE | {"head_dim": 8}, "attends in chunks"),
    "gemma4_text": (BASE | {"head_dim": 8}, "other layers made"),
    "deepseek_v3": (BASE, "latent vector"),
    "t5gemma": (None, "has an encoder"),
}


def built(kind, settings):
    config = AutoConfig.for_model(kind, **settings)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("kind", [kind for kind, (settings, _) in REFUSED.items() if settings])
def test_the_reason_is_the_true_one_and_a_family_that_opens_is_named(kind):
    settings, reason = REFUSED[kind]
    with pytest.raises(ModelError, match=reason) as refused:
        Model.open(built(kind, settings))
    nearest = str(refused.value).rsplit(" is ", 1)[1]
    assert nearest in known()


def test_no_family_is_both_known_and_refused():
    assert not REASONS.keys() & known().keys()
    assert set(REFUSED) <= set(REASONS)


def test_an_unknown_family_is_named_with_where_families_are_taught():
    hf = families.build("llama")
    hf.config.model_type = "llamoid"
    with pytest.raises(ModelError, match=r"'llamoid'(.|\n)*nearest family that opens is llama"):
        Model.open(hf)


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        ("opt", {"do_layer_norm_before": False}, "stream itself"),
        ("bloom", {"apply_residual_connection_post_layernorm": True}, "stream itself"),
        ("gpt2", {"add_cross_attention": True}, "has an encoder"),
        ("gemma3", {"use_bidirectional_attention": True}, "tokens behind them"),
    ],
)
def test_single_models_of_a_known_family(family, changes, reason):
    with pytest.raises(ModelError, match=reason):
        Model.open(families.build(family, **changes))


def test_quantised_weights_are_named():
    hf = families.build("llama")
    hf.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    with pytest.raises(ModelError, match="quantised weights"):
        Model.open(hf)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(bad):
    hf = families.build("llama")
    hf.model.layers[1].mlp.up_proj.weight.data[3, 2] = bad
    with pytest.raises(ModelError, match=r"model\.layers\.1\.mlp\.up_proj\.weight holds 1 value"):
        Model.open(hf)


def test_values_too_large_for_half_precision_are_named():
    hf = families.build("llama")
    hf.model.layers[0].mlp.up_proj.weight.data *= 1e4
    hf.model.layers[0].mlp.down_proj.weight.data *= 1e4
    Model.open(copy.deepcopy(hf))
    with pytest.raises(ModelError, match=r"float16 can hold; open it in bfloat16 or float32"):
        Model.open(hf, dtype=torch.float16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("much", [1.02, 1.2])
def test_half_precision_opens_nothing_that_float32_refuses(dtype, much):
    """A block that does a little more than its parts say would pass for rounding in half."""
    hf = families.build("llama")
    mlp = hf.model.layers[1].mlp
    kind = type(mlp)
    mlp.__class__ = type(
        "Louder", (kind,), {"forward": lambda self, x: much * kind.forward(self, x)}
    )
    for given in (None, dtype):
        with pytest.raises(ModelError, match="computes something circuits does not know"):
            Model.open(hf, dtype=given)


@pytest.mark.parametrize("family", ["gpt2", "gemma3", "gpt_oss", "falcon, new decoder"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_check_leaves_half_precision_weights_as_they_are(family, dtype):
    hf = copy.deepcopy(families.original(family)).to(dtype)
    model = Model.open(hf)
    state = model.hf.state_dict()
    assert all(torch.equal(state[name], value) for name, value in hf.state_dict().items())
    assert {weight.dtype for weight in model.hf.parameters()} == {dtype}
    hooks = [m for m in model.hf.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks
