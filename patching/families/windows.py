"""How many keys, itself included, a query can look back to."""

from __future__ import annotations

from typing import Any


def by_layer_type(config: Any, layer: int) -> int | None:
    """The sliding window of layers that the configuration calls so; None for all keys."""
    types = getattr(config, "layer_types", None)
    sliding = types is not None and types[layer] == "sliding_attention"
    return int(config.sliding_window) if sliding else None


def every_layer(config: Any, layer: int) -> int | None:
    """One window in all layers, where the configuration names one."""
    window = getattr(config, "sliding_window", None)
    return None if window is None else int(window)


def no_window(config: Any, layer: int) -> int | None:
    """Every query sees all keys before it."""
    return None
