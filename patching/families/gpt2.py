"""GPT-2 and StarCoder 1: learned positions, queries, keys and values in one matrix."""

from __future__ import annotations

from typing import Any

from patching.families.description import Family
from patching.families.fused import heads_in_a_row, thirds
from patching.families.windows import no_window


def gpt2(config: Any) -> Family:
    """GPT-2 and models built like it; the scale of scores may depend on the layer."""
    return Family(**GPT2, **thirds("attn.c_attn"), scale=_scale)


def bigcode(config: Any) -> Family:
    """GPT-BigCode (SantaCoder, StarCoder 1): one key/value head for all, or one each."""
    heads, path = config.num_attention_heads, "attn.c_attn"
    fused = heads_in_a_row(path, heads, 1) if config.multi_query else thirds(path, heads)
    return Family(**GPT2, **fused)


def _scale(attention: Any, config: Any, layer: int) -> float:
    scale: float = attention.head_dim**-0.5 if config.scale_attn_weights else 1.0
    return scale / (layer + 1) if config.scale_attn_by_inverse_layer_idx else scale


GPT2: dict[str, Any] = {
    "embed": "transformer.wte",
    "positions": "transformer.wpe",
    "layers": "transformer.h",
    "final_norm": "transformer.ln_f",
    "attention": "attn",
    "ln1": "ln_1",
    "ln2": "ln_2",
    "o": "attn.c_proj",
    "gate": "",
    "up": "mlp.c_fc",
    "down": "mlp.c_proj",
    "act": "mlp.act",
    "tables": None,
    "window": no_window,
}
"""GPT-2's names."""

FAMILIES = {"gpt2": gpt2, "gpt_bigcode": bigcode}
