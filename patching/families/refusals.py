"""Why a model is not taken apart: the true reason, and what is nearest to it.

Reasons are read off the configuration and the modules before anything is tried, so that no
exception of a library stands in for them.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from patching.families import known
from tasks.errors import ModelError

RECURRENT = "keeps a recurrent state from token to token, which is neither attention nor an MLP"
LATENT = (
    "computes keys and values from a latent vector that all heads share (latent attention), so "
    "that a head has no key or value matrix of its own"
)
LINEAR = "mixes linear attention, which keeps a recurrent state, with ordinary attention"
ENCODER = "has an encoder, whose states its layers read beside the residual stream"
IMAGES = "reads images or sound beside text; open its language model alone"
STREAM_NORM = (
    "normalises the residual stream itself behind every part, so that what parts write does not "
    "add up in it"
)
SHARED_KEYS = "lets layers read keys and values, or extra embeddings, that other layers made"

REASONS: dict[str, str] = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"), RECURRENT),
    **dict.fromkeys(("jamba", "bamba", "falcon_h1", "zamba", "zamba2", "nemotron_h"), RECURRENT),
    **dict.fromkeys(("recurrent_gemma", "granitemoehybrid"), RECURRENT),
    **dict.fromkeys(("lfm2", "lfm2_moe"), "mixes short convolutions over positions with attention"),
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "kimi_linear"), LINEAR),
    **dict.fromkeys(("olmo_hybrid", "minimax"), LINEAR),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "minicpm3"), LATENT),
    **dict.fromkeys(("kimi_k25", "longcat_flash", "glm4_moe_lite", "youtu"), LATENT),
    **dict.fromkeys(("t5", "mt5", "umt5", "t5gemma", "bart", "mbart", "pegasus"), ENCODER),
    **dict.fromkeys(("openai-gpt", "xlnet", "ctrl"), STREAM_NORM),
    **dict.fromkeys(("gemma3n_text", "gemma4_text"), SHARED_KEYS),
    **dict.fromkeys(("gemma3", "gemma3n", "gemma4", "mistral3", "llama4", "qwen2_vl"), IMAGES),
    **dict.fromkeys(("qwen2_5_vl", "qwen3_vl", "qwen3_5", "mllama", "llava"), IMAGES),
    "diffllama": "subtracts two attention patterns from one another in every head",
    "llama4_text": (
        "attends in chunks, turns some layers' queries by position and mixes expert inputs instead "
        "of their outputs"
    ),
    "phimoe": "chooses its experts one after the other with a threshold between them (SparseMixer)",
    "bitnet": "normalises the outputs of all heads together before they are written",
    "bert": "lets tokens see the tokens behind them",
    "roberta": "lets tokens see the tokens behind them",
}
"""By model type, what it does that circuits cannot take apart."""


def check_family(hf: Any) -> None:
    """Refuse a model whose family is unknown, or does what cannot be taken apart.

    Raises:
        ModelError: with the reason, and the nearest family that is known.
    """
    config = hf.config
    kind, families = str(config.model_type), known()
    if getattr(config, "quantization_config", None) is not None or _quantised(hf):
        raise ModelError(
            f"a {kind} model with quantised weights: their matrices are not numbers that can be "
            f"read, patched and differentiated; open it in float32, bfloat16 or float16, or give "
            f"circuits its GGUF file, which is dequantised"
        )
    if reason := REASONS.get(kind):
        raise ModelError(f"a {kind} model {reason}; {_nearest(kind, families)}")
    if kind not in families:
        raise ModelError(
            f"the model type '{kind}' ({type(hf).__name__}) is unknown to circuits; "
            f"{_nearest(kind, families)}. circuits/FAMILIES.md lists all that open, and "
            f"patching/families/ is where one is taught"
        )
    if reason := _trait(config, kind):
        raise ModelError(f"this {kind} model {reason}; other {kind} models open")


def _nearest(kind: str, families: Any) -> str:
    alike = [name for name in families if name[:3] == kind[:3]]
    close = get_close_matches(kind, alike, n=1, cutoff=0.5)
    return f"the nearest family that opens is {close[0] if close else 'llama'}"


def _quantised(hf: Any) -> bool:
    return not all(p.dtype.is_floating_point for p in hf.parameters())


def _trait(config: Any, kind: str) -> str | None:
    """What single models of a known family do that cannot be taken apart."""
    flagged = {
        "opt": not getattr(config, "do_layer_norm_before", True),
        "bloom": getattr(config, "apply_residual_connection_post_layernorm", False),
    }
    if flagged.get(kind):
        return STREAM_NORM
    if kind in ("gpt2", "gpt_bigcode", "xglm") and getattr(config, "add_cross_attention", False):
        return ENCODER
    if getattr(config, "is_encoder_decoder", False):
        return ENCODER
    if getattr(config, "use_bidirectional_attention", False):
        return "lets tokens see the tokens behind them"
    return None
