"""Runs of some latents alone: all others, and perhaps the errors, carry the corrupted run.

At every dictionary's place, in order of computation,

    y = y' + sum over kept j of (a_j - a_j') w_j  [+ rest - rest', where the error is kept]

with ``a_j`` and the rest as they are in this very run, and primes for the corrupted one. With
everything kept it is the clean run; with nothing kept the place holds what the corrupted run has
there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.places import Place
from patching.dictionaries.readings import kinds_of
from patching.dictionaries.splice import Splice, held, in_order
from patching.model import Model
from patching.norms import precise
from patching.ops import Point
from patching.runs import Batch, record
from patching.sitesets import label_columns


@dataclass(frozen=True)
class Kept:
    """Which latents of one dictionary are kept, label by label, and whether the error is.

    ``latents`` has one row for each label; with the one label None a row holds at all positions.
    """

    latents: Bool[Tensor, "labels m"]
    error: bool = False


@dataclass(frozen=True)
class LatentRunner:
    """Runs circuits of latents on one batch; what stands in elsewhere is computed once."""

    model: Model
    batch: Batch
    dictionaries: tuple[Dictionary, ...]
    labels: tuple[Any, ...]
    corrupted: Mapping[Place, tuple[Tensor, Tensor, Tensor]]

    @classmethod
    def of(
        cls,
        model: Model,
        batch: Batch,
        dictionaries: Sequence[Dictionary],
        labels: tuple[Any, ...] = (None,),
    ) -> LatentRunner:
        """Record the corrupted run at the dictionaries' places."""
        placed = in_order(dictionaries)
        _, values = record(model, batch, "corrupted", kinds_of(placed))
        parts = {each.writes: _parts(model, each, values) for each in placed}
        return cls(model, batch, placed, labels, parts)

    @torch.no_grad()
    def logits(self, kept: Mapping[Place, Kept]) -> Float[Tensor, "b v"]:
        """Logits with these latents alone, from the clean prompts."""
        masks = {place: self._mask(each) for place, each in kept.items()}

        def replaced(dictionary: Dictionary, x: Tensor, y: Tensor) -> Tensor:
            amounts = dictionary.amounts(precise(x))
            rest = precise(y) - amounts @ dictionary.W_dec
            y2, amounts2, rest2 = self.corrupted[dictionary.writes]
            mask = masks[dictionary.writes]
            made = y2 + (torch.where(mask, amounts - amounts2, 0.0)) @ dictionary.W_dec
            return made + (rest - rest2) if kept[dictionary.writes].error else made

        tap = Splice(self.model, self.dictionaries, replaced)
        return self.model.run(self.batch.clean, self.batch.mask, tap)

    def _mask(self, kept: Kept) -> Bool[Tensor, "b s m"]:
        latents = kept.latents.to(self.model.device)
        if self.labels == (None,):
            return latents[0].expand(*self.batch.clean.shape, -1)
        columns = label_columns(self.labels, self.batch)
        mask = torch.zeros(*self.batch.clean.shape, latents.shape[1], dtype=torch.bool)
        mask = mask.to(self.model.device)
        rows = torch.arange(len(columns), device=mask.device)
        for label, column in zip(latents, columns.T, strict=True):
            mask[rows, column] |= label
        return mask


def _parts(
    model: Model, dictionary: Dictionary, values: Mapping[Point, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The value, the amounts, and what they leave over."""
    y, amounts = held(model, dictionary, values)
    return y, amounts, y - amounts @ dictionary.W_dec
