"""Hunyuan, dense: norms of queries and keys that follow the rotary embedding."""

from __future__ import annotations

from typing import Any

from patching.families.description import Family


def hunyuan(config: Any) -> Family:
    """Hunyuan 0.5B to 7B."""
    norms: dict[str, Any] = {
        "q_norm": "self_attn.query_layernorm",
        "k_norm": "self_attn.key_layernorm",
    }
    return Family(**norms, norms_turned=True)


FAMILIES = {"hunyuan_v1_dense": hunyuan}
