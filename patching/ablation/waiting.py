"""What stands in for a waiting token: its conditional mean (CAMA), and the alternatives to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from patching.ablation.estimates import conditional_means, estimate_means
from patching.ablation.means import MeanActivations
from patching.allforone.stages import waiting_point, waiting_points
from patching.masks import self_peek
from patching.model import Model
from patching.ops import Point
from patching.sweep import Sweep
from tasks.pairs import PromptPairs

Samples = Mapping[tuple[int, int], Int[np.ndarray, "n pos"]]

MEANS_BATCH = 256
"""Prompts per forward pass of the means."""

STAND_INS: Mapping[str, str] = {
    "cama": "the mean over prompts with the same token there",
    "resample": "the value in one such prompt",
    "alone": "the value that the token has when it attends to itself and the first alone",
    "skip": "the embedding: the blocks that wait are skipped",
    "mean-by-position": "the mean at that position",
    "mean": "the mean over all positions",
    "zero": "zero",
}


def cama(
    model: Model,
    pairs: PromptPairs,
    samples: Samples,
    batch_size: int | Sweep = MEANS_BATCH,
) -> MeanActivations:
    """The residual stream after every block, -1 the embedding, given the token alone."""
    points = waiting_points(model)
    return conditional_means(model, samples, points, pairs.task, batch_size)


def alternatives(
    model: Model,
    pairs: PromptPairs,
    samples: Samples,
    means: MeanActivations,
    bos: bool,
    seed: int = 0,
    batch_size: int | Sweep = MEANS_BATCH,
) -> dict[str, MeanActivations]:
    """What else could stand in, as tables of the same kind; BOS is left as it is in all of them."""
    points, rng = waiting_points(model), np.random.default_rng(seed)
    one = {cell: rows[[rng.integers(len(rows))]] for cell, rows in samples.items()}
    other = torch.as_tensor(means.keys[:, 1] >= int(bos), device=model.device)
    embedding = means.values[waiting_point(-1)]
    by_position = estimate_means(model, pairs, points, "position", batch_size)
    shared = torch.as_tensor(by_position.keys[:, 1] >= int(bos), device=model.device)

    def changed(table: MeanActivations, values: Mapping[Point, Tensor]) -> MeanActivations:
        return replace(table, values=dict(values))

    def by_itself(mask: Bool[Tensor, "b s"]) -> Bool[Tensor, "b 1 s s"]:
        return self_peek(mask, bos)

    def level(value: Tensor) -> Tensor:
        return torch.where(shared[:, None], value[shared].mean(0), value)

    return {
        "resample": conditional_means(model, one, points, pairs.task, batch_size),
        "alone": conditional_means(model, one, points, pairs.task, batch_size, by_itself),
        "skip": changed(means, dict.fromkeys(points, embedding)),
        "mean-by-position": by_position,
        "mean": changed(by_position, {p: level(by_position.values[p]) for p in points}),
        "zero": changed(
            means, {p: means.values[p].masked_fill(other[:, None], 0.0) for p in points}
        ),
    }
