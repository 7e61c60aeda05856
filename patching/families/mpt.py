"""MPT: ALiBi, no biases, queries, keys and values in one matrix."""

from __future__ import annotations

from typing import Any

from patching.families.alibi import KeyBias, linear, slopes_of
from patching.families.description import Family
from patching.families.fused import thirds
from patching.families.windows import no_window


def mpt(config: Any) -> Family:
    """MPT 7B and 30B, and Replit Code."""
    return Family(
        embed="transformer.wte",
        layers="transformer.blocks",
        final_norm="transformer.norm_f",
        attention="attn",
        ln1="norm_1",
        ln2="norm_2",
        **thirds("attn.Wqkv"),
        clip=config.attn_config.clip_qkv,
        o="attn.out_proj",
        gate="",
        up="ffn.up_proj",
        down="ffn.down_proj",
        act="ffn.act",
        scale=lambda attention, config, layer: float(attention.softmax_scale),
        tables=None,
        window=no_window,
        key_bias=_key_bias,
    )


def _key_bias(config: Any) -> KeyBias:
    from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

    heads, steepest = config.n_heads, config.attn_config.alibi_bias_max
    return linear(slopes_of(build_mpt_alibi_tensor(heads, 2, steepest)))


FAMILIES = {"mpt": mpt}
