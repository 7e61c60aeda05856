"""Command R: parallel blocks with one LayerNorm, neighbouring features turn together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from patching.families.description import Family


def cohere(config: Any) -> Family:
    """Command R and R+ (which has a norm for each head's queries and keys)."""
    normed: dict[str, Any] = {"q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}
    return Family(
        ln2="input_layernorm",
        parallel=True,
        logit_scale=config.logit_scale,
        interleaved=True,
        **(normed if getattr(config, "use_qk_norm", False) else {}),
    )


def cohere2(config: Any) -> Family:
    """Command R7B: windowed layers turn queries and keys, the others know no positions."""

    def table(config: Any, layer: int) -> str | None:
        return "" if config.layer_types[layer] == "sliding_attention" else None

    return replace(cohere(config), table=table)


FAMILIES = {"cohere": cohere, "cohere2": cohere2}
