"""ERNIE 4.5, dense: Llama whose neighbouring features turn together."""

from __future__ import annotations

from typing import Any

from patching.families import rotary
from patching.families.description import Family


def ernie(config: Any) -> Family:
    """ERNIE 4.5 0.3B."""
    return Family(tables=rotary.neighbours_from_halves, interleaved=True)


FAMILIES = {"ernie4_5": ernie}
