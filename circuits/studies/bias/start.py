"""Runs of many prompts that start in the middle: what enters a block is kept and gone on from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.forward import run_block, run_block_end
from patching.frame import Frame
from patching.model import Model

BATCH = 128
TOKENS = 8192
"""Prompts and tokens of a batch, at most: attention of long prompts is large."""


@dataclass(frozen=True)
class Start:
    """The residual stream of some prompts where it enters block ``layer``, by batch.

    What edits of that block or later ones change can be run from there.
    """

    layer: int
    streams: tuple[tuple[Float[Tensor, "b s d"], Frame], ...]

    @classmethod
    @torch.no_grad()
    def of(
        cls, model: Model, tokens: Int[np.ndarray, "n pos"], mask: Bool[np.ndarray, "n pos"]
    ) -> Start:
        """What enters the first block, without columns that are padding throughout."""
        batches = []
        for rows in batch_rows(mask):
            first = int(mask[rows].any(0).argmax())
            real = mask[rows, first:]
            # Padding may be any number, such as -100; the model needs one that it can look up.
            ids = torch.tensor(np.where(real, tokens[rows, first:], 0), device=model.device)
            frame = model.frame(torch.tensor(real, device=model.device))
            batches.append((model.embed(ids, frame), frame))
        return cls(0, tuple(batches))

    @torch.no_grad()
    def at(self, model: Model, layer: int) -> Start:
        """The same where it enters a later block: the blocks in between, run once for all."""
        if layer < self.layer:
            raise ValueError(f"a start at block {self.layer} cannot go back to block {layer}")
        batches = []
        for x, frame in self.streams:
            with model.reading():
                for block in model.blocks[self.layer : layer]:
                    x = run_block(block, x, frame)
            batches.append((x, frame))
        return Start(layer, tuple(batches))

    def logits(self, model: Model) -> Iterator[Float[Tensor, "b v"]]:
        """Logits at the last position, batch by batch."""
        for x, frame in self.streams:
            with model.reading():
                for block in model.blocks[self.layer : -1]:
                    x = run_block(block, x, frame)
                logits = model.unembed(run_block_end(model.blocks[-1], x, frame)[:, -1])
            yield logits


def batch_rows(mask: Bool[np.ndarray, "n pos"]) -> Iterator[slice]:
    """Slices of rows, few where they are long."""
    size = max(1, min(BATCH, TOKENS // max(mask.shape[1], 1)))
    yield from (slice(start, start + size) for start in range(0, len(mask), size))
