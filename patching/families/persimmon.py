"""Persimmon: queries, keys and values in one matrix, head by head; LayerNorms of both."""

from __future__ import annotations

from typing import Any

from patching.families.description import Family
from patching.families.fused import thirds


def persimmon(config: Any) -> Family:
    """Persimmon 8B."""
    normed: dict[str, Any] = {"q_norm": "self_attn.q_layernorm", "k_norm": "self_attn.k_layernorm"}
    return Family(
        final_norm="model.final_layernorm",
        o="self_attn.dense",
        gate="",
        up="mlp.dense_h_to_4h",
        down="mlp.dense_4h_to_h",
        act="mlp.act",
        **thirds("self_attn.query_key_value", config.num_attention_heads),
        **(normed if config.qk_layernorm else {}),
    )


FAMILIES = {"persimmon": persimmon}
