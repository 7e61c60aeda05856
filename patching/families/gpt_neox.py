"""GPT-NeoX (Pythia): parallel blocks with two norms, fused matrices, partial rotary."""

from __future__ import annotations

from typing import Any

from patching.families.description import Family
from patching.families.fused import thirds
from patching.families.windows import no_window


def gpt_neox(config: Any) -> Family:
    """Pythia, GPT-NeoX, Dolly."""
    return Family(
        embed="gpt_neox.embed_in",
        layers="gpt_neox.layers",
        final_norm="gpt_neox.final_layer_norm",
        attention="attention",
        parallel=bool(config.use_parallel_residual),
        **thirds("attention.query_key_value", config.num_attention_heads),
        o="attention.dense",
        gate="",
        up="mlp.dense_h_to_4h",
        down="mlp.dense_4h_to_h",
        act="mlp.act",
        window=no_window,
    )


FAMILIES = {"gpt_neox": gpt_neox}
