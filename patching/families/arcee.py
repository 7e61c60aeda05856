"""Arcee: Llama with an MLP of two matrices."""

from __future__ import annotations

from typing import Any

from patching.families.description import Family
from patching.families.llama import UNGATED


def arcee(config: Any) -> Family:
    """AFM: the square of a ReLU, and no gate."""
    return Family(**UNGATED)


FAMILIES = {"arcee": arcee}
