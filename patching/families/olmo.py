"""OLMo 1 to 3 and OLMoE: no weights in norms, then norms behind the layer's parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from patching.families import rotary
from patching.families.description import Family
from patching.families.llama import AFTER_ONLY
from patching.families.mixtures import mixture


def olmo(config: Any) -> Family:
    """OLMo 1: LayerNorms without weights; queries, keys and values may be cut off."""
    return Family(clip=config.clip_qkv)


def olmo2(config: Any) -> Family:
    """OLMo 2: norms only behind attention and MLP; one norm for all queries, one for all keys."""
    return Family(**AFTER_ONLY, **QK_NORM)


def olmo3(config: Any) -> Family:
    """OLMo 3: sliding windows, with a rotary table of their own."""
    return replace(olmo2(config), tables=rotary.by_layer_type, table=rotary.layer_type)


def olmoe(config: Any) -> Family:
    """OLMoE: Llama's norms, OLMo 2's of queries and keys, and experts."""
    return Family(**QK_NORM, clip=config.clip_qkv, experts=mixture())


QK_NORM: dict[str, Any] = {"q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}
FAMILIES = {"olmo": olmo, "olmo2": olmo2, "olmo3": olmo3, "olmoe": olmoe}
