"""Phi 1 to 4: parallel blocks in the first two, fused matrices in the later ones."""

from __future__ import annotations

from typing import Any

from patching.families.description import Family
from patching.families.fused import halves, heads_in_a_row
from patching.families.windows import every_layer


def phi(config: Any) -> Family:
    """Phi 1, 1.5 and 2: attention and MLP share one norm and read the same stream."""
    normed: dict[str, Any] = {"q_norm": "self_attn.q_layernorm", "k_norm": "self_attn.k_layernorm"}
    return Family(
        final_norm="model.final_layernorm",
        ln2="input_layernorm",
        parallel=True,
        o="self_attn.dense",
        gate="",
        up="mlp.fc1",
        down="mlp.fc2",
        act="mlp.activation_fn",
        **(normed if config.qk_layernorm else {}),
    )


def phi3(config: Any) -> Family:
    """Phi 3, 3.5 mini and 4: queries, keys and values in one matrix, gate and up in another."""
    heads = config.num_attention_heads, config.num_key_value_heads
    return Family(
        window=every_layer,
        act="mlp.activation_fn",
        **heads_in_a_row("self_attn.qkv_proj", *heads),
        **halves("mlp.gate_up_proj"),
    )


FAMILIES = {"phi": phi, "phi3": phi3}
