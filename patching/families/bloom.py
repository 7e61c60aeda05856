"""BLOOM: ALiBi, a norm of the embedding, fused matrices head by head."""

from __future__ import annotations

from typing import Any

import torch

from patching.families.alibi import KeyBias, linear, slopes_of
from patching.families.description import Family
from patching.families.fused import thirds
from patching.families.windows import no_window


def bloom(config: Any) -> Family:
    """BLOOM and BLOOMZ."""
    return Family(
        embed="transformer.word_embeddings",
        embed_norm="transformer.word_embeddings_layernorm",
        layers="transformer.h",
        final_norm="transformer.ln_f",
        attention="self_attention",
        **thirds("self_attention.query_key_value", config.num_attention_heads),
        o="self_attention.dense",
        gate="",
        up="mlp.dense_h_to_4h",
        down="mlp.dense_4h_to_h",
        act="mlp.gelu_impl",
        scale=lambda attention, config, layer: float(attention.inv_norm_factor),
        tables=None,
        window=no_window,
        key_bias=_key_bias,
    )


def _key_bias(config: Any) -> KeyBias:
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    heads, two = config.num_attention_heads, torch.ones(1, 2)
    return linear(slopes_of(build_alibi_tensor(two, heads, torch.float32)))


FAMILIES = {"bloom": bloom}
