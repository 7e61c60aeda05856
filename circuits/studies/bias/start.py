"""Runs of many prompts that start in the middle, and in which what prompts share is run once.

What enters a block is kept, and the run continues from there. Prompts with the same beginning, such
as one question in several orders of its options, have the beginning run once for all: nothing in it
can see what follows, so its keys and values are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.blocks import Block
from patching.forward import Record, Tap, no_tap, run_block, run_block_end
from patching.frame import Frame
from patching.model import Model
from patching.ops import Point

BATCH = 128
TOKENS = 8192
"""Prompts and tokens of a batch, at most: attention of long prompts is large."""

PAST = ("k_rot", "v_read")
"""What later positions read of earlier ones."""


@dataclass(frozen=True)
class Chunk:
    """Some prompts where they enter a block.

    rows    which prompts
    x       their streams behind what they share
    real    which of these positions are no padding
    begun   the streams of what prompts share, one for equally many prompts in a row; None where
            nothing is shared
    """

    rows: Int[np.ndarray, " b"]
    x: Float[Tensor, "b s d"]
    frame: Frame
    real: Bool[Tensor, "b s"]
    begun: tuple[Float[Tensor, "g p d"], Frame] | None

    @property
    def tokens(self) -> int:
        """How many tokens are run, with padding."""
        shared = 0 if self.begun is None else self.begun[0][..., 0].numel()
        return self.x[..., 0].numel() + shared

    def through(self, block: Block, tap: Tap = no_tap) -> Chunk:
        """The same behind a block; the tap sees what is not shared."""
        begun, past = self.begun, None
        if begun is not None:
            seen = Record(PAST)
            begun = run_block(block, *begun, seen), begun[1]
            past = self._past(seen)
        return replace(self, x=run_block(block, self.x, self.frame, tap, past=past), begun=begun)

    def logits(self, model: Model, layer: int, tap: Tap = no_tap) -> Float[Tensor, "b v"]:
        """Logits at the last position, from block ``layer`` on, which they enter."""
        at, past, last = self, None, model.blocks[-1]
        with model.reading():
            for block in model.blocks[layer:-1]:
                at = at.through(block, tap)
            if at.begun is not None:
                seen = Record(PAST)
                run_block_end(last, *at.begun, seen)
                past = self._past(seen)
            return model.unembed(run_block_end(last, at.x, at.frame, tap, past)[:, -1], tap)

    def _past(self, seen: Record) -> dict[Point, Tensor]:
        """Keys and values of what is shared, for every prompt that shares it."""
        return {
            point: value.repeat_interleave(len(self.rows) // len(value), dim=0)
            for point, value in seen.values.items()
        }


@dataclass(frozen=True)
class Start:
    """Some prompts where they enter block ``layer``, in chunks of about equal length.

    What edits of that block or later ones change can be run from there.
    """

    layer: int
    chunks: tuple[Chunk, ...]

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        model: Model,
        tokens: Int[np.ndarray, "n pos"],
        mask: Bool[np.ndarray, "n pos"],
        alike: int = 1,
    ) -> Start:
        """What enters the first block; ``alike`` prompts in a row may share a beginning."""
        prompts = [ids[real] for ids, real in zip(tokens, mask, strict=True)]
        groups = [prompts[i : i + alike] for i in range(0, len(prompts), alike)]
        # A window is counted in columns, of which some would be empty.
        windows = [block.window for block in model.blocks if block.window is not None]
        sharing = alike > 1 and min(windows, default=mask.shape[1]) >= mask.shape[1]
        order = sorted(range(len(groups)), key=lambda i: max(map(len, groups[i])))
        size = max(1, min(BATCH, TOKENS // max(mask.shape[1], 1)) // alike)
        chunks = []
        for start in range(0, len(order), size):
            some = order[start : start + size]
            rows = (np.array(some)[:, None] * alike + np.arange(alike)).ravel()
            chunks.append(_chunk(model, rows, [groups[i] for i in some], sharing))
        return cls(0, tuple(chunks))

    @torch.no_grad()
    def at(self, model: Model, layer: int) -> Start:
        """The same where it enters a later block: the blocks in between, run once for all."""
        if layer < self.layer:
            raise ValueError(f"a start at block {self.layer} cannot go back to block {layer}")
        chunks = self.chunks
        with model.reading():
            for block in model.blocks[self.layer : layer]:
                chunks = tuple(chunk.through(block) for chunk in chunks)
        return Start(layer, chunks)

    def only(self, model: Model, rows: Int[np.ndarray, " n"]) -> Start:
        """The same of some prompts, which share no beginning, numbered in this order."""
        numbers, chunks = {row: number for number, row in enumerate(rows.tolist())}, []
        for chunk in self.chunks:
            picked = [i for i, row in enumerate(chunk.rows.tolist()) if row in numbers]
            if picked:
                real, kept = chunk.real[picked], chunk.rows[picked].tolist()
                new = np.array([numbers[row] for row in kept])
                chunks.append(Chunk(new, chunk.x[picked], model.frame(real), real, None))
        return Start(self.layer, tuple(chunks))

    @property
    def tokens(self) -> int:
        """How many tokens are run."""
        return sum(chunk.tokens for chunk in self.chunks)

    @property
    def order(self) -> Int[np.ndarray, " n"]:
        """Where each prompt stands among those of all chunks, one after the other."""
        return np.argsort(np.concatenate([chunk.rows for chunk in self.chunks]))

    def logits(self, model: Model) -> Iterator[tuple[Int[np.ndarray, " b"], Float[Tensor, "b v"]]]:
        """Logits at the last position, chunk by chunk, with the prompts that they are of."""
        for chunk in self.chunks:
            yield chunk.rows, chunk.logits(model, self.layer)


def _chunk(
    model: Model, rows: Int[np.ndarray, " b"], groups: Sequence[Sequence[np.ndarray]], sharing: bool
) -> Chunk:
    """Groups of prompts where they enter the first block, what each shares apart if wanted."""
    shared = [_shared(group) if sharing else 0 for group in groups]
    first, begins = _left_padded([group[0][:n] for group, n in zip(groups, shared, strict=True)])
    rest, real = _left_padded(
        [ids[n:] for group, n in zip(groups, shared, strict=True) for ids in group]
    )
    width, each = first.shape[1], len(rows) // len(groups)
    mask = np.concatenate([begins.repeat(each, axis=0), real], axis=1)
    frame = model.frame(torch.tensor(mask, device=model.device)).rows(width)
    begun = None
    if width:
        own = model.frame(torch.tensor(begins, device=model.device))
        begun = model.embed(torch.tensor(first, device=model.device), own), own
    x = model.embed(torch.tensor(rest, device=model.device), frame)
    return Chunk(rows, x, frame, torch.tensor(real, device=model.device), begun)


def _shared(prompts: Sequence[Int[np.ndarray, " s"]]) -> int:
    """With how many tokens all of them begin; each has at least one more."""
    shortest = min(map(len, prompts)) - 1
    same = np.all([ids[:shortest] == prompts[0][:shortest] for ids in prompts], axis=0)
    return shortest if same.all() else int(same.argmin())


def _left_padded(
    rows: Sequence[Int[np.ndarray, " s"]],
) -> tuple[Int[np.ndarray, "n pos"], Bool[np.ndarray, "n pos"]]:
    """Token ids with zeros before them, and where they are real."""
    width = max(map(len, rows))
    ids, real = np.zeros((len(rows), width), dtype=np.int64), np.zeros((len(rows), width), bool)
    for row, given in enumerate(rows):
        ids[row, width - len(given) :] = given
        real[row, width - len(given) :] = True
    return ids, real
