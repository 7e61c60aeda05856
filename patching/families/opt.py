"""OPT, XGLM and BioGPT: positions looked up two further on, LayerNorms before both parts."""

from __future__ import annotations

from typing import Any

from patching.families.description import Family
from patching.families.windows import no_window


def opt(config: Any) -> Family:
    """OPT, whose embedding may be narrower than the stream."""
    narrow = config.word_embed_proj_dim != config.hidden_size
    maps: dict[str, Any] = {
        "into": "model.decoder.project_in",
        "out_of": "model.decoder.project_out",
    }
    return Family(
        **FAIRSEQ,
        embed="model.decoder.embed_tokens",
        positions="model.decoder.embed_positions",
        layers="model.decoder.layers",
        final_norm="model.decoder.final_layer_norm",
        **(maps if narrow else {}),
    )


def xglm(config: Any) -> Family:
    """XGLM: position vectors of sines and cosines."""
    return Family(**FAIRSEQ, positions="model.embed_positions", final_norm="model.layer_norm")


def biogpt(config: Any) -> Family:
    """BioGPT."""
    return Family(
        **FAIRSEQ,
        embed="biogpt.embed_tokens",
        positions="biogpt.embed_positions",
        layers="biogpt.layers",
        final_norm="biogpt.layer_norm",
        unembed="output_projection",
    )


FAIRSEQ: dict[str, Any] = {
    "position_offset": 2,
    "ln1": "self_attn_layer_norm",
    "ln2": "final_layer_norm",
    "o": "self_attn.out_proj",
    "gate": "",
    "up": "fc1",
    "down": "fc2",
    "act": "activation_fn",
    "tables": None,
    "window": no_window,
}
"""The names that models from fairseq share."""

FAMILIES = {"opt": opt, "xglm": xglm, "biogpt": biogpt}
