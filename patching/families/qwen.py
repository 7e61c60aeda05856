"""Qwen 2 and 3, dense and as mixtures of experts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from patching.families.description import Family
from patching.families.mixtures import mixture


def qwen2(config: Any) -> Family:
    """Qwen 2 and 2.5: biases of queries, keys and values."""
    return Family()


def qwen3(config: Any) -> Family:
    """Qwen 3: norms of single queries and keys."""
    return Family(q_norm="self_attn.q_norm", k_norm="self_attn.k_norm")


def qwen2_moe(config: Any) -> Family:
    """Qwen 1.5 and 2 MoE: a shared expert, weighted by a gate of its own, beside the chosen."""
    return replace(qwen2(config), experts=mixture(shared=True))


def qwen3_moe(config: Any) -> Family:
    """Qwen 3 MoE."""
    return replace(qwen3(config), experts=mixture())


FAMILIES = {"qwen2": qwen2, "qwen3": qwen3, "qwen2_moe": qwen2_moe, "qwen3_moe": qwen3_moe}
