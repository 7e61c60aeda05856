"""What stands in for activations under an ablation, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from patching.ablations import Ablation
from patching.mean_activations import MeanActivations
from patching.mean_estimates import estimate_means
from patching.model import Model
from patching.ops import Point
from patching.runs import Batch, batches, record
from tasks.errors import MethodError, all_faults
from tasks.pairs import PromptPairs

Values = Mapping[Point, Tensor]


@dataclass(frozen=True)
class Replace:
    """A tap that puts given values in the place of whole points; they broadcast to their shape."""

    values: Values

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """The value that stands in, or the value itself."""
        found = self.values.get((kind, layer))
        return value if found is None else found.to(value.dtype).expand_as(value)

    def wants(self, kind: str, layer: int) -> bool:
        """The points it replaces."""
        return (kind, layer) in self.values


def stand_ins(
    model: Model,
    pairs: PromptPairs,
    ablation: Ablation,
    points: Iterable[Point],
    batch_size: int = 32,
    means: MeanActivations | None = None,
) -> Iterator[tuple[Batch, Values]]:
    """Every batch of the pairs with what stands in at the given points.

    Values broadcast to those of the batch. Means are estimated over the pairs' own clean prompts
    unless ``means`` of a stated set are given.

    Raises:
        MethodError: means that do not fit, or a prompt without another one to resample from.
    """
    points = tuple(dict.fromkeys(points))
    kinds = {kind for kind, _ in points}
    if ablation.means_by is not None:
        known = _fitting_means(model, pairs, ablation, points, means)
        for batch in batches(model, pairs, batch_size):
            yield batch, {point: known.at(point, batch.clean, batch.mask) for point in points}
    elif ablation.kind == "zero":
        nothing = torch.zeros((), device=model.device)
        for batch in batches(model, pairs, batch_size):
            yield batch, dict.fromkeys(points, nothing)
    elif ablation.kind == "resample":
        others = pairs[donors(pairs, ablation.argument or 0)]
        giving = batches(model, others, batch_size)
        for batch, donor in zip(batches(model, pairs, batch_size), giving, strict=True):
            yield batch, _chosen(record(model, donor, "clean", kinds)[1], points)
    else:
        for batch in batches(model, pairs, batch_size):
            yield batch, _chosen(record(model, batch, "corrupted", kinds)[1], points)


def donors(pairs: PromptPairs, seed: int) -> Int[np.ndarray, " n"]:
    """For every prompt another one with as many tokens; each gives to exactly one.

    Raises:
        MethodError: listing lengths that only one prompt has.
    """
    rng = np.random.default_rng(seed)
    lengths = pairs.mask.sum(1)
    found = np.zeros(len(pairs), dtype=np.int64)
    alone = []
    for length in np.unique(lengths):
        order = rng.permutation(np.flatnonzero(lengths == length))
        found[order] = np.roll(order, 1)
        if len(order) == 1:
            alone.append(f"prompt {order[0]} is the only one of {length} tokens")
    if alone:
        headline = "nothing to resample from; draw more prompts, or of one length:"
        raise MethodError(all_faults(headline, alone))
    return found


def _chosen(values: Values, points: Iterable[Point]) -> Values:
    return {point: values[point] for point in points}


def _fitting_means(
    model: Model,
    pairs: PromptPairs,
    ablation: Ablation,
    points: tuple[Point, ...],
    means: MeanActivations | None,
) -> MeanActivations:
    by = ablation.means_by or "all"
    if means is None:
        return estimate_means(model, pairs, points, by)
    if means.by != by:
        raise MethodError(f"ablation '{ablation}' needs means by {by}, given means by {means.by}")
    means.check(model, pairs, points)
    return means
