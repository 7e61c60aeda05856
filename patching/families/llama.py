"""Llama, and the families that differ from it in name alone."""

from __future__ import annotations

from typing import Any

from patching.families import rotary
from patching.families.description import Family
from patching.families.windows import every_layer

SANDWICH: dict[str, Any] = {
    "ln1_post": "post_attention_layernorm",
    "ln2": "pre_feedforward_layernorm",
    "ln2_post": "post_feedforward_layernorm",
}
"""Names of norms where one stands before and one behind both attention and MLP."""

AFTER_ONLY: dict[str, Any] = {
    "ln1": "",
    "ln1_post": "post_attention_layernorm",
    "ln2": "",
    "ln2_post": "post_feedforward_layernorm",
}
"""Names of norms where they stand behind attention and MLP only: both read the stream as it is."""

UNGATED: dict[str, Any] = {"gate": "", "up": "mlp.up_proj", "down": "mlp.down_proj"}
"""An MLP of two matrices with Llama's names."""


def llama(config: Any) -> Family:
    """Llama 1 to 3, and models built like it: SmolLM2, Vicuna, Yi, DeepSeek LLM, Seed-OSS."""
    return Family()


def helium(config: Any) -> Family:
    """Helium: neighbouring features turn together."""
    return Family(tables=rotary.neighbours_from_halves, interleaved=True)


def windowed(config: Any) -> Family:
    """Mistral and Ministral: a sliding window, where the configuration names one, in all layers."""
    layers = getattr(config, "layer_types", None)
    return Family() if layers else Family(window=every_layer)


FAMILIES = {
    "llama": llama,
    "helium": helium,
    "seed_oss": llama,
    "mistral": windowed,
    "ministral": windowed,
}
