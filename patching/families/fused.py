"""Several maps in one matrix: queries, keys and values, or gate and up, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class FusedProjection:
    """Some outputs of the module at ``path``.

    The outputs are ``groups`` times ``per`` equal pieces; of each group the pieces ``which`` are
    meant. So ``FusedProjection(path, 1, 3, slice(0, 1))`` is the first third of all outputs, and
    ``FusedProjection(path, heads, 3, slice(0, 1))`` the first third of every head's own.
    """

    path: str
    groups: int
    per: int
    which: slice


Part = str | FusedProjection
"""A module of its own, or a part of one; an empty path for a part that does not exist."""


def thirds(path: str, groups: int = 1, order: str = "qkv") -> dict[str, Any]:
    """Queries, keys and values as thirds of all outputs, or of each of some groups of outputs."""
    return {
        port: FusedProjection(path, groups, 3, slice(at, at + 1)) for at, port in enumerate(order)
    }


def heads_in_a_row(path: str, heads: int, kv_heads: int, groups: int = 1) -> dict[str, Any]:
    """All query heads, then all key heads, then all value heads, of each group of heads."""
    per = heads + 2 * kv_heads
    ends = (0, heads, heads + kv_heads, per)
    return {
        port: FusedProjection(path, groups, per, slice(ends[at], ends[at + 1]))
        for at, port in enumerate("qkv")
    }


def halves(path: str) -> dict[str, Any]:
    """The gate of an MLP as the first half of all outputs, the factor beside it as the second."""
    return {
        "gate": FusedProjection(path, 1, 2, slice(0, 1)),
        "up": FusedProjection(path, 1, 2, slice(1, 2)),
    }


class FusedRows(nn.Module):
    """A part of a fused map as a map of its own; its weight is read from the whole at each call."""

    def __init__(self, fused: Any, part: FusedProjection) -> None:
        super().__init__()
        # In a tuple: the whole is the model's, not a submodule of this one.
        self._whole = (fused,)
        self.part = part

    @property
    def fused(self) -> Any:
        """The module that holds the whole map."""
        return self._whole[0]

    def _pick(self, outputs_first: Tensor) -> Tensor:
        part = self.part
        return outputs_first.unflatten(0, (part.groups, part.per, -1))[:, part.which].flatten(0, 2)

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """The part's weight; a live view where its outputs stand together, else a copy."""
        whole = self.fused.weight
        return self._pick(whole.T if type(self.fused).__name__ == "Conv1D" else whole)

    @property
    def bias(self) -> Float[Tensor, " o"] | None:
        """The part's bias."""
        whole = getattr(self.fused, "bias", None)
        return None if whole is None else self._pick(whole)

    def forward(self, x: Tensor) -> Tensor:
        """The part's outputs."""
        out: Tensor = torch.nn.functional.linear(x, self.weight, self.bias)
        return out
