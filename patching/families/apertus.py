"""Apertus: an MLP of two matrices with xIELU, norms of single queries and keys."""

from __future__ import annotations

from typing import Any

from patching.families.description import Family
from patching.families.llama import UNGATED


def apertus(config: Any) -> Family:
    """Apertus 8B and 70B."""
    norms: dict[str, Any] = {"ln1": "attention_layernorm", "ln2": "feedforward_layernorm"}
    return Family(**norms, **UNGATED, q_norm="self_attn.q_norm", k_norm="self_attn.k_norm")


FAMILIES = {"apertus": apertus}
