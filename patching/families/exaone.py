"""EXAONE 4: norms behind the layer's parts, and rotary in windowed layers alone."""

from __future__ import annotations

from typing import Any

from patching.families.description import Family
from patching.families.llama import AFTER_ONLY


def exaone4(config: Any) -> Family:
    """EXAONE 4; where the model has windows, its full layers know no positions."""

    def table(config: Any, layer: int) -> str | None:
        sliding = config.layer_types[layer] == "sliding_attention"
        return "" if config.sliding_window is None or sliding else None

    norms: dict[str, Any] = {"q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}
    return Family(**AFTER_ONLY, **norms, table=table)


FAMILIES = {"exaone4": exaone4}
