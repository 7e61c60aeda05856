"""Nemotron and Minitron: LayerNorm of 1 + weight, the square of a ReLU, partial rotary."""

from __future__ import annotations

from typing import Any

from patching.families.description import Family
from patching.families.llama import UNGATED


def nemotron(config: Any) -> Family:
    """Nemotron 3 and 4."""
    return Family(**UNGATED)


FAMILIES = {"nemotron": nemotron}
