"""GPT-J and CodeGen: parallel blocks with one norm, and rotary of neighbouring features."""

from __future__ import annotations

from typing import Any

from patching.families import rotary
from patching.families.description import Family
from patching.families.fused import thirds
from patching.families.gpt2 import GPT2


def gpt_j(config: Any) -> Family:
    """GPT-J."""
    ports: dict[str, Any] = {port: f"attn.{port}_proj" for port in "qkv"}
    return Family(**(GPT2 | GPT_J | ports))


def codegen(config: Any) -> Family:
    """CodeGen: values stand before keys, in four groups of heads."""
    return Family(**(GPT2 | GPT_J | thirds("attn.qkv_proj", groups=4, order="qvk")))


def _scale(attention: Any, config: Any, layer: int) -> float:
    return float(attention.head_dim**-0.5)


GPT_J: dict[str, Any] = {
    "positions": "",
    "ln2": "ln_1",
    "parallel": True,
    "o": "attn.out_proj",
    "up": "mlp.fc_in",
    "down": "mlp.fc_out",
    "tables": rotary.from_layer("embed_positions"),
    "interleaved": True,
    "scale": _scale,
}
"""What GPT-J does otherwise than GPT-2."""

FAMILIES = {"gptj": gpt_j, "codegen": codegen}
