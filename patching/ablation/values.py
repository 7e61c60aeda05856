"""What stands in for activations under an ablation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from patching.ablation.estimates import MEANS_BATCH, estimate_means
from patching.ablation.kinds import Ablation
from patching.ablation.means import MeanActivations
from patching.model import Model
from patching.ops import Point
from patching.runs import Batch, record
from patching.sweep import PLAIN, Sweep
from tasks.errors import MethodError, all_faults
from tasks.pairs import PromptPairs

Values = Mapping[Point, Tensor]


@dataclass(frozen=True)
class Replace:
    """A tap that puts given values instead of whole points; they broadcast to their shape."""

    values: Values

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """The value that stands in, or the value itself."""
        stand_in = self.values.get((kind, layer))
        return value if stand_in is None else stand_in.to(value.dtype).expand_as(value)

    def wants(self, kind: str, layer: int) -> bool:
        """The points it replaces."""
        return (kind, layer) in self.values


@dataclass(frozen=True)
class StandIns:
    """What stands in at some points, settled for a whole set of prompts before any is run.

    So what stands in for a prompt does not depend on which others share its batch. ``givers`` are
    the prompts to resample from, one for each; ``means`` those of the set, or of another one.
    """

    model: Model
    ablation: Ablation
    points: tuple[Point, ...]
    means: MeanActivations | None = None
    givers: PromptPairs | None = None

    @classmethod
    def of(
        cls,
        model: Model,
        pairs: PromptPairs,
        ablation: Ablation,
        points: Iterable[Point],
        means: MeanActivations | None = None,
        options: Sweep = PLAIN,
    ) -> StandIns:
        """What stands in for the pairs' values.

        Means are estimated over the pairs' own clean prompts unless ``means`` of a stated set are
        given.

        Raises:
            MethodError: means that do not fit, or a prompt without another one to resample from.
        """
        points = tuple(dict.fromkeys(points))
        if ablation.means_by is not None:
            means = settled_means(model, pairs, ablation, points, means, options)
            return cls(model, ablation, points, means)
        resampled = ablation.kind == "resample"
        givers = pairs[donors(pairs, ablation.argument or 0)] if resampled else None
        return cls(model, ablation, points, None, givers)

    def at(self, batch: Batch) -> Values:
        """What stands in for a batch of the set; the values broadcast to those of the batch."""
        if self.means is not None:
            return {p: self.means.at(p, batch.clean, batch.mask) for p in self.points}
        if self.ablation.kind == "zero":
            return dict.fromkeys(self.points, torch.zeros((), device=self.model.device))
        run = "corrupted" if self.givers is None else "clean"
        if self.givers is not None:
            batch = Batch.of(self.model, self.givers[batch.rows])
        values = record(self.model, batch, run, {kind for kind, _ in self.points})[1]
        return {point: values[point] for point in self.points}


def donors(pairs: PromptPairs, seed: int) -> Int[np.ndarray, " n"]:
    """For every prompt another one with as many tokens; each gives to exactly one.

    Raises:
        MethodError: listing lengths that only one prompt has.
    """
    rng = np.random.default_rng(seed)
    lengths = pairs.mask.sum(1)
    rows = np.zeros(len(pairs), dtype=np.int64)
    alone = []
    for length in np.unique(lengths):
        order = rng.permutation(np.flatnonzero(lengths == length))
        rows[order] = np.roll(order, 1)
        if len(order) == 1:
            alone.append(f"prompt {order[0]} is the only one of {length} tokens")
    if alone:
        headline = "nothing to resample from; draw more prompts, or of one length:"
        raise MethodError(all_faults(headline, alone))
    return rows


def settled_means(
    model: Model,
    pairs: PromptPairs,
    ablation: Ablation,
    points: Iterable[Point],
    means: MeanActivations | None = None,
    options: Sweep = PLAIN,
) -> MeanActivations | None:
    """The means that an ablation of these prompts takes: those given, or the prompts' own.

    Raises:
        MethodError: means of another kind, model or task, or of prompts of other lengths.
    """
    by = ablation.means_by
    if by is None:
        return None
    if means is None:
        return estimate_means(model, pairs, points, by, options.afresh(MEANS_BATCH))
    if means.by != by:
        raise MethodError(f"ablation '{ablation}' needs means by {by}, given means by {means.by}")
    means.check(model, pairs, points)
    return means
