"""Tiny random models of every family that circuits handles, opened once per process.

Weights are larger than at initialisation and every bias and norm weight is random, so that
attention is uneven, nonlinear steps are far from their linear range, and no part is a bystander.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import torch

from patching.metrics import check_metric
from patching.model import Model
from patching.runs import Batch, batches
from tasks.pairs import PromptPairs

VOCABULARY = 61
LENGTH = 9

_GPT = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
_LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}
_GEMMA = {
    "head_dim": 16,
    "sliding_window": 4,
    "query_pre_attn_scalar": 20,
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 3.0,
}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", _GPT | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}),
    "gpt_neo": (
        "GPTNeoConfig",
        _GPT
        | {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 4,
            "max_position_embeddings": 32,
        },
    ),
    "gpt_neox": (
        "GPTNeoXConfig",
        _GPT
        | {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 32,
        },
    ),
    "llama": ("LlamaConfig", _LLAMA),
    "mistral": ("MistralConfig", _LLAMA | {"sliding_window": 4}),
    "gemma2": ("Gemma2Config", _LLAMA | _GEMMA),
    "qwen2": ("Qwen2Config", _LLAMA),
    "qwen3": ("Qwen3Config", _LLAMA | {"head_dim": 16}),
}

FAMILIES = tuple(CONFIGS)
GROUPED = ("llama", "mistral", "gemma2", "qwen2", "qwen3")
"""Families whose query heads share key/value heads here."""

LAYER_NORM = ("gpt2", "gpt_neo", "gpt_neox")
"""Families that compute in float64 throughout when asked to (RMS norms fall back to float32)."""


def build(family: str, seed: int = 0, gain: float | None = None, **changes: Any) -> Any:
    """A random Hugging Face model of a family, with eager attention."""
    import transformers

    name, settings = CONFIGS[family]
    gain = gain or (6.0 if family in LAYER_NORM else 3.0)
    config = getattr(transformers, name)(**(settings | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hf = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        for weight in hf.parameters():
            if weight.ndim == 1:
                weight.data += 0.2 * torch.randn_like(weight)
            else:
                weight.data *= gain
    return hf.eval()


@cache
def original(family: str) -> Any:
    """The Hugging Face model that :func:`opened` was made from; not to be changed."""
    return build(family)


@cache
def opened(family: str) -> Model:
    """The family's model, opened; not to be changed."""
    return Model.open(original(family))


@cache
def in_double(family: str) -> Model:
    """The family's model in float64, for what is exact but for rounding."""
    return Model.open(copy.deepcopy(original(family)).double(), dtype=torch.float64)


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
    (batch,) = batches(model, pairs, len(pairs))
    return batch


LOGIT_DIFF = check_metric("logit_diff")
