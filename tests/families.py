"""Tiny random models of every family that circuits handles, opened once per process.

Weights are larger than at initialisation and every bias and norm weight is random, so that
attention is uneven, nonlinear steps are far from their linear range, and no part is a bystander.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch

from patching.loading import digest
from patching.metrics import check_metric
from patching.model import Model
from patching.runs import Batch
from tasks.pairs import PromptPairs

VOCABULARY = 61
LENGTH = 9

_GPT = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
_GPT2 = _GPT | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
_BASE = _GPT | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
_LLAMA = _BASE | {"num_key_value_heads": 2}
_WIDE = _LLAMA | {"head_dim": 16}
_GEMMA2 = _WIDE | {
    "sliding_window": 4,
    "query_pre_attn_scalar": 20,
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 3.0,
}
_GEMMA3 = _WIDE | {
    "sliding_window": 4,
    "query_pre_attn_scalar": 20,
    "layer_types": ["sliding_attention", "full_attention"],
}
_WINDOWED = _LLAMA | {"sliding_window": 4}
_MIXED = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
_NEO = _GPT | {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 1]],
    "window_size": 4,
    "max_position_embeddings": 128,
}
_FAIRSEQ = _GPT | {"max_position_embeddings": 128, "bos_token_id": 1}
_OPT = _FAIRSEQ | {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2}
_FEW = {"num_local_experts": 4, "num_experts_per_tok": 2}
_SMALL = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", _GPT2),
    "gpt_neo": ("gpt_neo", _NEO),
    "gpt_neox": ("gpt_neox", _BASE),
    "llama": ("llama", _LLAMA),
    "mistral": ("mistral", _WINDOWED),
    "gemma2": ("gemma2", _GEMMA2),
    "qwen2": ("qwen2", _LLAMA),
    "qwen3": ("qwen3", _WIDE),
    "gemma3": ("gemma3_text", _GEMMA3),
    "olmo2": ("olmo2", _LLAMA),
    "bloom": ("bloom", _GPT | {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "cohere": ("cohere", _LLAMA | {"use_qk_norm": True, "logit_scale": 0.5}),
}
"""The families on which the whole engine is tested: between them they have every trait."""

MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2, scores by layer": ("gpt2", _GPT2 | {"scale_attn_by_inverse_layer_idx": True}),
    "gpt2, scores not scaled": ("gpt2", _GPT2 | {"scale_attn_weights": False}),
    "gpt_bigcode": ("gpt_bigcode", _GPT2),
    "gpt_bigcode, multi-head": ("gpt_bigcode", _GPT2 | {"multi_query": False}),
    "gptj": ("gptj", _GPT2 | {"rotary_dim": 4}),
    "codegen": ("codegen", _GPT2 | {"rotary_dim": 4}),
    "gpt_neox, in a row": ("gpt_neox", _BASE | {"use_parallel_residual": False}),
    "opt": ("opt", _OPT | {"num_attention_heads": 4, "word_embed_proj_dim": 32}),
    "opt, narrow embedding": ("opt", _OPT | {"num_attention_heads": 4, "word_embed_proj_dim": 16}),
    "xglm": (
        "xglm",
        _FAIRSEQ | {"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4},
    ),
    "biogpt": ("biogpt", _BASE),
    "mpt": ("mpt", _GPT | {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128}),
    "mpt, cut off": (
        "mpt",
        _GPT
        | {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128}
        | {"attn_config": {"clip_qkv": 0.5}},
    ),
    "falcon": ("falcon", _BASE),
    "falcon, in a row": ("falcon", _BASE | {"parallel_attn": False, "multi_query": False}),
    "falcon, new decoder": (
        "falcon",
        _BASE | {"new_decoder_architecture": True, "num_kv_heads": 2, "bias": True},
    ),
    "falcon, ALiBi": ("falcon", _BASE | {"alibi": True, "multi_query": False}),
    "llama, biases": ("llama", _LLAMA | {"attention_bias": True, "mlp_bias": True}),
    "llama, one key/value head": ("llama", _LLAMA | {"num_key_value_heads": 1}),
    "llama, rope of 3.1": (
        "llama",
        _LLAMA
        | {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
    ),
    "helium": ("helium", _WIDE | {"head_dim": 8}),
    "seed_oss": ("seed_oss", _WIDE),
    "ministral": ("ministral", _WIDE),
    "ministral3": (
        "ministral3",
        _WIDE
        | {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 32,
                "max_position_embeddings": 128,
                "llama_4_scaling_beta": 0.5,
            }
        },
    ),
    "gemma": ("gemma", _WIDE),
    "phi": ("phi", _BASE),
    "phi, norms of queries and keys": ("phi", _BASE | {"qk_layernorm": True}),
    "phi3": ("phi3", _WINDOWED),
    "olmo": ("olmo", _LLAMA),
    "olmo, cut off": ("olmo", _LLAMA | {"clip_qkv": 0.5}),
    "olmo3": ("olmo3", _LLAMA | _MIXED),
    "granite": (
        "granite",
        _LLAMA
        | {"residual_multiplier": 0.3, "embedding_multiplier": 4.0}
        | {"logits_scaling": 2.0, "attention_multiplier": 0.2},
    ),
    "smollm3": ("smollm3", _LLAMA | {"no_rope_layers": [0, 1]}),
    "smollm3, windowed": (
        "smollm3",
        _LLAMA | _MIXED | {"no_rope_layers": [1, 0], "use_sliding_window": True},
    ),
    "glm": ("glm", _WIDE),
    "glm4": ("glm4", _WIDE),
    "cohere2": ("cohere2", _LLAMA | _MIXED),
    "stablelm": ("stablelm", _LLAMA),
    "stablelm, parallel, norms by head": (
        "stablelm",
        _LLAMA | {"use_parallel_residual": True, "qk_layernorm": True},
    ),
    "starcoder2": ("starcoder2", _WINDOWED),
    "exaone4": ("exaone4", _WIDE | _MIXED),
    "ernie4_5": ("ernie4_5", _WIDE),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", _WIDE),
    "nemotron": ("nemotron", _LLAMA),
    "persimmon": ("persimmon", _BASE),
    "apertus": ("apertus", _LLAMA),
    "arcee": ("arcee", _LLAMA),
    "mixtral": ("mixtral", _LLAMA | _FEW),
    "qwen2_moe": ("qwen2_moe", _LLAMA | _SMALL | {"shared_expert_intermediate_size": 16}),
    "qwen3_moe": ("qwen3_moe", _WIDE | _SMALL | {"norm_topk_prob": True}),
    "olmoe": ("olmoe", _LLAMA | _SMALL | {"clip_qkv": 2.0}),
    "granitemoe": ("granitemoe", _LLAMA | _FEW | {"residual_multiplier": 0.3}),
    "gpt_oss": ("gpt_oss", _WIDE | _MIXED | _FEW),
}
"""Every other family, and forms of a family that its configuration chooses."""

FAMILIES = tuple(CONFIGS)
ARCHITECTURES = CONFIGS | MORE
MIXTURES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe", "gpt_oss")
GROUPED = ("llama", "mistral", "gemma2", "qwen2", "qwen3", "gemma3", "olmo2", "cohere")
"""Families whose query heads share key/value heads here."""

LAYER_NORM = ("gpt2", "gpt_neo", "gpt_neox", "bloom")
"""Families whose weights are small at initialisation, so that they take a larger gain."""


def build(family: str, seed: int = 0, gain: float | None = None, **changes: Any) -> Any:
    """A random Hugging Face model of a family, with eager attention."""
    from transformers import AutoConfig, AutoModelForCausalLM

    name, settings = ARCHITECTURES[family]
    gain = gain or (6.0 if family in LAYER_NORM else 3.0)
    config = AutoConfig.for_model(name, **(settings | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hf = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        for weight in hf.parameters():
            if weight.ndim == 1:
                weight.data += 0.2 * torch.randn_like(weight)
            else:
                weight.data *= gain
    return hf.eval()


@cache
def original(family: str) -> Any:
    """The Hugging Face model that the others are made from; not to be changed."""
    return build(family)


@cache
def opened(family: str) -> Model:
    """The family's model in float64; not to be changed.

    Most tests ask whether two ways of computing agree. In float64 they do to twelve digits on every
    processor, so that a bound says what the mathematics says, and nothing about rounding. Taken
    apart without the check of opening, since not every transformers model runs in float64.
    """
    hf = copy.deepcopy(original(family)).double().requires_grad_(False)
    return Model(hf, digest=digest(hf))


@cache
def single(family: str) -> Model:
    """The family's model in float32, as a person opens it; not to be changed."""
    return Model.open(original(family))


def make_pairs(
    n: int = 5,
    length: int = LENGTH,
    padding: tuple[int, ...] = (0, 2, 0, 3, 1),
    differing: tuple[int, ...] = (4, 6),
    seed: int = 0,
    vocabulary: int = VOCABULARY,
) -> PromptPairs:
    """Random left-padded pairs that differ at some columns, with the positions X and END."""
    rng = np.random.default_rng(seed)
    clean = rng.integers(0, vocabulary, (n, length))
    corrupted = clean.copy()
    for column in differing:
        shift = rng.integers(1, vocabulary, n)
        corrupted[:, column] = (clean[:, column] + shift) % vocabulary
    mask = np.arange(length) >= np.resize(padding, n)[:, None]
    half = vocabulary // 2
    return PromptPairs(
        clean=clean,
        corrupted=corrupted,
        mask=mask,
        answer=rng.integers(0, half, (n, 1)),
        counterfactual=rng.integers(half, vocabulary, (n, 1)),
        positions={
            "X": np.resize((4, 5, 6), n),
            "END": np.full(n, length - 1),
        },
        task="random",
    )


def one_batch(model: Model, pairs: PromptPairs) -> Batch:
    """All pairs as one batch."""
    return Batch.of(model, pairs)


LOGIT_DIFF = check_metric("logit_diff")


def replace_positions(pairs: PromptPairs, **positions: list[int]) -> PromptPairs:
    """The same prompts with other named positions."""
    return replace(pairs, positions={name: np.array(at) for name, at in positions.items()})
