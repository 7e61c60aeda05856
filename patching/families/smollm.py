"""SmolLM3: Llama with layers that know no positions. (SmolLM 1 and 2 are Llama.)"""

from __future__ import annotations

from typing import Any

from patching.families.description import Family
from patching.families.windows import by_layer_type, no_window


def smollm3(config: Any) -> Family:
    """Every fourth layer has no rotary embedding."""

    def table(config: Any, layer: int) -> str | None:
        return "" if config.no_rope_layers[layer] else None

    window = by_layer_type if config.use_sliding_window else no_window
    return Family(table=table, window=window)


FAMILIES = {"smollm3": smollm3}
