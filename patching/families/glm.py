"""GLM: neighbouring features turn together, gate and up in one matrix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from patching.families import rotary
from patching.families.description import Family
from patching.families.fused import halves


def glm(config: Any) -> Family:
    """GLM-4 9B, in the form of early 2024."""
    return Family(
        act="mlp.activation_fn",
        tables=rotary.neighbours_from_halves,
        interleaved=True,
        **halves("mlp.gate_up_proj"),
    )


def glm4(config: Any) -> Family:
    """GLM-4-0414: norms behind attention and MLP as well."""
    after: dict[str, Any] = {
        "ln1_post": "post_self_attn_layernorm",
        "ln2_post": "post_mlp_layernorm",
    }
    return replace(glm(config), **after)


FAMILIES = {"glm": glm, "glm4": glm4}
