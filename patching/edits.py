"""Editing activations: functions of a value at a point, as one tap for a run or a generation.

An edit at all positions acts whenever its point is passed. One that is tied to positions acts in
the run of the prompt, whose columns they are, and not on the positions generated after it; a swap
of attention goes on, because its columns are keys, which stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from patching.latent_change import LatentChange, LatentState
from patching.ops import Point
from tasks.errors import EditError

Columns = Int[Tensor, " b"]
Where = int | str
"""A token index (negative from the prompt's end) or a named position."""


@dataclass(frozen=True)
class ValueChange:
    """``change`` of a value's last axis: of one unit or all, at one position or all."""

    point: Point
    change: Callable[[Float[Tensor, "*b d"]], Float[Tensor, "*b d"]]
    unit: int | None = None
    where: Where | None = None

    def __call__(self, value: Tensor, columns: Mapping[Where, Columns], first: bool) -> Tensor:
        """The value with the change made."""
        if self.where is not None and not first:
            return value
        value = value.clone()
        rows = torch.arange(len(value), device=value.device)
        positions = slice(None) if self.where is None else columns[self.where]
        batch = slice(None) if self.where is None else rows
        if self.unit is None:
            value[batch, positions] = self.change(value[batch, positions])
        elif value.ndim == 3:
            one = slice(self.unit, self.unit + 1)
            value[batch, positions, one] = self.change(value[batch, positions, one])
        else:
            part = value[batch, positions, self.unit]
            value[batch, positions, self.unit] = self.change(part)
        return value


@dataclass(frozen=True)
class PatternSwap:
    """Swap two entries of a head's attention pattern, for the query that predicts next.

    Entries of the pattern after the softmax, so the row still sums to 1. Equation 9 of Li & Gao,
    arXiv 2405.03205, read in the only way that has an effect: a head's output is a sum over
    positions, which does not change when its summands change places.
    """

    layer: int
    head: int
    one: Where
    other: Where

    @property
    def point(self) -> Point:
        """The pattern of the layer."""
        return "pattern", self.layer

    def __call__(self, value: Tensor, columns: Mapping[Where, Columns], first: bool) -> Tensor:
        """The pattern with the two entries swapped in its last row."""
        del first
        value = value.clone()
        rows = torch.arange(len(value), device=value.device)
        one, other = columns[self.one], columns[self.other]
        last = value[:, self.head, -1].clone()
        value[rows, self.head, -1, one] = last[rows, other]
        value[rows, self.head, -1, other] = last[rows, one]
        return value

    @property
    def wheres(self) -> tuple[Where, Where]:
        """The two positions."""
        return self.one, self.other


Change = ValueChange | PatternSwap | LatentChange


class EditTap:
    """A tap that makes changes in order; for one run of prompts and what is generated after it.

    Latents are read from what is there before any change of their point.
    """

    def __init__(
        self, changes: Sequence[Change], columns: Mapping[Where, Columns], mask: Tensor
    ) -> None:
        self._columns = columns
        self._seen: set[Point] = set()
        self._changes: dict[Point, list[tuple[int, Change]]] = {}
        self._latents = LatentState.of(mask.bool())
        self._read = {change.reads for change in changes if isinstance(change, LatentChange)}
        for number, change in enumerate(changes):
            self._changes.setdefault(change.point, []).append((number, change))

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """The edited value, or the value itself."""
        point = (kind, layer)
        if point in self._read:
            self._latents.values[point] = value
        changes = self._changes.get(point)
        if changes is None:
            return value
        first = point not in self._seen
        self._seen.add(point)
        for number, change in changes:
            if isinstance(change, LatentChange):
                value = self._latents.apply(number, change, value, first, self._columns)
            else:
                value = change(value, self._columns, first)
        return value

    def wants(self, kind: str, layer: int) -> bool:
        """The points of its changes, and those that encoders read."""
        return (kind, layer) in self._changes or (kind, layer) in self._read


def edit_tap(
    changes: Sequence[Change], mask: Tensor, positions: Mapping[str, Tensor] | None = None
) -> EditTap:
    """The tap for a batch; ``positions`` are the named columns of its prompts.

    Raises:
        EditError: a named position that is not given, or an index outside a prompt.
    """
    wanted: dict[Where, None] = {}
    for change in changes:
        given = change.wheres if isinstance(change, PatternSwap) else (change.where,)
        wanted |= {where: None for where in given if where is not None}
    columns = {where: _columns(where, mask, positions or {}) for where in wanted}
    return EditTap(changes, columns, mask)


def _columns(where: Where, mask: Tensor, positions: Mapping[str, Tensor]) -> Columns:
    length = mask.shape[1]
    if isinstance(where, str):
        if where not in positions:
            known = ", ".join(positions) or "none"
            raise EditError(f"position '{where}' is not given with these prompts; known: {known}")
        return torch.as_tensor(positions[where], device=mask.device).long()
    starts = mask.long().argmax(1)
    columns = length + where + 0 * starts if where < 0 else starts + where
    if bool((columns >= length).any()) or bool((columns < starts).any()):
        shortest = int(mask.sum(1).min())
        raise EditError(f"position {where} is outside a prompt; the shortest has {shortest} tokens")
    return columns
