"""StarCoder 2: LayerNorm, biases everywhere, an MLP of two matrices, a sliding window."""

from __future__ import annotations

from typing import Any

from patching.families.description import Family
from patching.families.windows import every_layer


def starcoder2(config: Any) -> Family:
    """StarCoder 2."""
    return Family(gate="", up="mlp.c_fc", down="mlp.c_proj", act="mlp.act", window=every_layer)


FAMILIES = {"starcoder2": starcoder2}
