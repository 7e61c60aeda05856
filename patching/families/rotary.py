"""Rotary tables: cosines and sines of positions, as each family makes them.

A table has one entry for each feature that turns, in the order in which the features stand in a
head; features that pass have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from patching.frame import Table

Make = Callable[[Int[Tensor, "b s"], Tensor], Mapping[str, Table]]


def _module(hf: Any) -> Any:
    """The rotary module of the model, which transformers keeps beside its layers."""
    return next(m.rotary_emb for m in hf.modules() if hasattr(m, "rotary_emb"))


def one(hf: Any) -> Make:
    """One table for all layers, as the model's own rotary module gives it."""
    module = _module(hf)
    return lambda positions, like: {"": module(like, positions)}


def neighbours_from_halves(hf: Any) -> Make:
    """The module gives each angle twice, half after half; neighbours turn together (GLM)."""
    module = _module(hf)

    def make(positions: Tensor, like: Tensor) -> dict[str, Table]:
        cos, sin = (part.chunk(2, -1)[0].to(like.dtype) for part in module(like, positions))
        return {"": (cos.repeat_interleave(2, -1), sin.repeat_interleave(2, -1))}

    return make


def halves_from_angles(hf: Any) -> Make:
    """The module gives each angle once; features turn with those half a head away (gpt-oss)."""
    module = _module(hf)

    def make(positions: Tensor, like: Tensor) -> dict[str, Table]:
        cos, sin = module(like, positions)
        return {"": (torch.cat([cos, cos], -1), torch.cat([sin, sin], -1))}

    return make


def by_layer_type(hf: Any) -> Make:
    """One table for each type of layer, which differ in their base (Gemma 3, OLMo 3)."""
    module, types = _module(hf), sorted(set(hf.config.layer_types))

    def make(positions: Tensor, like: Tensor) -> dict[str, Table]:
        return {each: module(like, positions, each) for each in types}

    return make


def layer_type(config: Any, layer: int) -> str | None:
    """A layer's table is that of its type."""
    kind: str = config.layer_types[layer]
    return kind


def from_layer(path: str) -> Callable[[Any], Make]:
    """Sines and cosines that every layer's attention holds as a table by position (GPT-J)."""

    def of(hf: Any) -> Make:
        holder = next(m for m in hf.modules() if hasattr(m, path))

        def make(positions: Tensor, like: Tensor) -> dict[str, Table]:
            both = getattr(holder, path).to(like)[positions]
            sin, cos = both.chunk(2, -1)
            return {"": (cos.repeat_interleave(2, -1), sin.repeat_interleave(2, -1))}

        return make

    return of
