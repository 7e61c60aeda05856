"""StableLM: LayerNorm and partial rotary, in a row or in parallel."""

from __future__ import annotations

from typing import Any

from patching.families.description import Family


def stablelm(config: Any) -> Family:
    """StableLM 2 and 3B; the 12B has parallel blocks and a norm for each head."""
    normed: dict[str, Any] = {"q_norm": "self_attn.q_layernorm", "k_norm": "self_attn.k_layernorm"}
    parallel = bool(config.use_parallel_residual)
    return Family(
        parallel=parallel,
        ln2="input_layernorm" if parallel else "post_attention_layernorm",
        **(normed if config.qk_layernorm else {}),
    )


FAMILIES = {"stablelm": stablelm}
