"""GPT-Neo: GPT-2 with scores that are not scaled, and local attention in some layers."""

from __future__ import annotations

from typing import Any

from patching.families.description import Family
from patching.families.gpt2 import GPT2


def gpt_neo(config: Any) -> Family:
    """GPT-Neo, TinyStories among them."""
    ports: dict[str, Any] = {port: f"attn.attention.{port}_proj" for port in "qkv"}
    rest: dict[str, Any] = {"attention": "attn.attention", "o": "attn.attention.out_proj"}
    return Family(
        **(GPT2 | ports | rest | {"window": _window}),
        scale=lambda attention, config, layer: 1.0,
    )


def _window(config: Any, layer: int) -> int | None:
    return config.window_size if config.attention_layers[layer] == "local" else None


FAMILIES = {"gpt_neo": gpt_neo}
