"""Whether a configuration and the weights beside it are of one model.

transformers draws what it does not find at random, and leaves out what it has no place for; here
both are refused, and so is a configuration of another size, before any memory is taken for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from patching.sources.directory import Weights
from tasks.errors import ModelError

BESIDE = 1 << 30
"""Bytes of tables (masks, positions) that a model may make for itself, beside its weights."""


def check_built(path: str, model: Any, weights: Weights) -> None:
    """Refuse a model, built without memory, that is much larger than its weights.

    Raises:
        ModelError: see above.
    """
    parameters = sum(value.numel() for value in model.parameters())
    tables = sum(value.numel() * value.element_size() for value in model.buffers())
    if parameters > 2 * weights.elements + (1 << 20):
        raise ModelError(
            f"cannot open '{path}': its configuration describes a model of {parameters:,} "
            f"numbers, and its weights are {weights.elements:,}: one of the two is another "
            f"model's, or changed"
        )
    if tables > BESIDE + 8 * weights.elements:
        raise ModelError(
            f"cannot open '{path}': its configuration asks for tables of {tables / 1e9:,.0f} GB, "
            f"and its weights are {weights.elements:,} numbers: look at its number of positions"
        )


def check_loaded(path: str, model: Any, info: Mapping[str, Iterable[str]]) -> None:
    """Refuse weights of which some are missing, or have no place in the model.

    Raises:
        ModelError: see above.
    """
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"cannot open '{path}': its weights lack {_listed(missing)}, which its "
            f"configuration calls for; fetch it again"
        )
    kinds = {_kind(name) for name in model.state_dict()}
    if extra := sorted(name for name in info["unexpected_keys"] if _kind(name) in kinds):
        raise ModelError(
            f"cannot open '{path}': its weights hold {_listed(extra)}, for which its configuration "
            f"has no place: one of the two is another model's, or changed"
        )


def _kind(name: str) -> str:
    """A weight's name without the numbers of its layer and expert."""
    return re.sub(r"\d+", "#", name)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
