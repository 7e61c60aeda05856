"""Activations of many tokens, to train a dictionary on: the first token of every text left out.

The first token, a beginning-of-sequence token or not, has activations that are hundreds of times
longer than all others in many models, and carries no text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from patching.capture import Prompts
from patching.dictionaries.places import Place
from patching.dictionaries.readings import point_of, value_at
from patching.forward import Record
from patching.model import Model
from patching.sweep import Sweep


@torch.no_grad()
def collect(
    model: Model, rows: Sequence[Sequence[int]], places: Sequence[Place], options: Sweep
) -> list[Float[Tensor, "tokens d"]]:
    """The values at some places, for every token but the first of every row of token ids.

    They lie on the CPU in float32, text after text of growing length.

    Raises:
        TaskError: a row is empty, or the model cannot read it.
    """
    prompts = Prompts.of(sorted(rows, key=len))
    prompts.check(model)
    kinds = tuple(dict.fromkeys(point_of(place)[0] for place in places))

    def work(tokens: Tensor, mask: Tensor) -> list[Tensor]:
        record = Record(kinds)
        model.run(tokens, mask, record)
        kept = inner(mask)
        return [value_at(model, place, record.values)[kept].float().cpu() for place in places]

    parts = [*prompts.sweep(model, work, options)]
    return [torch.cat(column) for column in zip(*parts, strict=True)]


def inner(mask: Tensor) -> Tensor:
    """The tokens of left-padded texts without the first of each."""
    kept = mask.clone()
    kept[torch.arange(len(mask), device=mask.device), mask.long().argmax(1)] = False
    return kept


def within(rows: Sequence[Sequence[int]], tokens: int, seed: int) -> list[Sequence[int]]:
    """Some of the rows, drawn without replacement, that have about so many tokens together."""
    order = np.random.default_rng(seed).permutation(len(rows))
    kept, total = [], 0
    for number in order:
        if total >= tokens:
            break
        kept.append(rows[number])
        total += max(len(rows[number]) - 1, 0)
    return kept
