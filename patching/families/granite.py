"""Granite: Llama with factors of embedding, scores, writes and logits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from patching.families.description import Family
from patching.families.mixtures import mixture


def granite(config: Any) -> Family:
    """Granite 3 and 4, dense."""
    return Family(
        embed_scale=config.embedding_multiplier,
        write_scale=config.residual_multiplier,
        logit_scale=1 / config.logits_scaling,
    )


def granite_moe(config: Any) -> Family:
    """Granite 3, as a mixture of experts."""
    experts = mixture("router", at="block_sparse_moe", renormalised=True)
    return replace(granite(config), experts=experts)


FAMILIES = {"granite": granite, "granitemoe": granite_moe}
