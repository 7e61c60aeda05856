"""Falcon 1: parallel blocks with one norm or two, key/value heads in several arrangements."""

from __future__ import annotations

from typing import Any

import torch

from patching.families.alibi import KeyBias, linear, slopes_of
from patching.families.description import Family
from patching.families.fused import heads_in_a_row, thirds
from patching.families.windows import no_window


def falcon(config: Any) -> Family:
    """Falcon 7B, 40B and 180B, and Falcon-RW with ALiBi."""
    heads, path = config.num_attention_heads, "self_attention.query_key_value"
    if config.new_decoder_architecture:
        groups = config.num_kv_heads
        fused = heads_in_a_row(path, heads // groups, 1, groups)
    else:
        fused = heads_in_a_row(path, heads, 1) if config.multi_query else thirds(path, heads)
    # transformers 5.23 adds the bias twice under eager attention, once in the mask and once itself.
    alibi: dict[str, Any] = {"key_bias": _key_bias, "tables": None, "right_attention": "sdpa"}
    return Family(
        embed="transformer.word_embeddings",
        layers="transformer.h",
        final_norm="transformer.ln_f",
        attention="self_attention",
        **_norms(config),
        **fused,
        o="self_attention.dense",
        gate="",
        up="mlp.dense_h_to_4h",
        down="mlp.dense_4h_to_h",
        act="mlp.act",
        scale=lambda attention, config, layer: attention.head_dim**-0.5,
        window=no_window,
        **(alibi if config.alibi else {}),
    )


def _norms(config: Any) -> dict[str, Any]:
    new = config.new_decoder_architecture
    if not new and not config.parallel_attn:
        return {}
    two = config.num_ln_in_parallel_attn == 2 or (new and config.num_ln_in_parallel_attn is None)
    if two:
        return {"ln1": "ln_attn", "ln2": "ln_mlp", "parallel": True}
    return {"ln2": "input_layernorm", "parallel": True}


def _key_bias(config: Any) -> KeyBias:
    from transformers.models.falcon.modeling_falcon import build_alibi_tensor

    heads, two = config.num_attention_heads, torch.ones(1, 2, dtype=torch.long)
    slopes = slopes_of(build_alibi_tensor(two, heads, torch.float32)).bfloat16()
    # Falcon makes the bias in bfloat16, and scales it as it scales the scores.
    scale = (config.hidden_size // heads) ** -0.5
    return lambda keys: linear(slopes)(keys.bfloat16()).float() * scale


FAMILIES = {"falcon": falcon}
