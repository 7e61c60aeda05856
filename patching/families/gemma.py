"""Gemma 1 to 3: scaled embeddings, norms of 1 + weight, soft-caps, sliding windows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from patching.families import rotary
from patching.families.description import Family
from patching.families.llama import SANDWICH


def gemma(config: Any) -> Family:
    """Gemma 1: Llama's layout."""
    return Family()


def gemma2(config: Any) -> Family:
    """Gemma 2: norms before and behind, soft-caps of scores and of logits."""
    return Family(
        **SANDWICH,
        softcap=config.attn_logit_softcapping,
        logit_cap=config.final_logit_softcapping,
    )


def gemma3(config: Any) -> Family:
    """Gemma 3: a rotary table of its own for windowed layers, norms of single queries and keys."""
    return replace(
        gemma2(config),
        q_norm="self_attn.q_norm",
        k_norm="self_attn.k_norm",
        tables=rotary.by_layer_type,
        table=rotary.layer_type,
    )


FAMILIES = {"gemma": gemma, "gemma2": gemma2, "gemma3_text": gemma3}
