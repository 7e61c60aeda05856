"""Mixtral: Mistral with eight experts, of which two answer."""

from __future__ import annotations

from typing import Any

from patching.families.description import Family
from patching.families.mixtures import mixture
from patching.families.windows import every_layer


def mixtral(config: Any) -> Family:
    """Mixtral 8x7B and 8x22B."""
    return Family(window=every_layer, experts=mixture(renormalised=True))


FAMILIES = {"mixtral": mixtral}
