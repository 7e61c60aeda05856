"""The three stages of the All-for-One subgraph (Mamidanna et al. 2025, arXiv 2509.09650).

*Wait*: blocks 0 to W run as they are, then the residual stream of every token is replaced by what
it is given that token alone (context-aware mean ablation, CAMA). *Transfer*: in blocks W+1 to W+T
the last token sees all tokens, every other token sees itself and the first (a full peek).
*Compute*: in the remaining blocks the last token sees itself and the first only (a self peek), so
nothing else matters any more. MLPs are never altered.

W counts from 0 and names a block: "the residual stream after block W". W = -1 replaces the
embedding, which is a function of token and position alone, so nothing is lost: no block waits.
T = 0 transfers nothing; T = n_layers - 1 - W never stops transferring.

Prompts are of one length. The first token counts as BOS where it is the same in every prompt;
otherwise it is an operand like any other and gets no special place in a peek.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patching.ablation.means import MeanActivations
from patching.blocks import Block
from patching.forward import Tap, chain, no_tap, run_block
from patching.frame import Frame
from patching.in_use import undisturbed
from patching.masks import Attention, cut_last, full_peek, hide_first, self_peek, window_peek
from patching.model import Model
from patching.ops import Point
from patching.runs import Batch
from patching.sweep import Sweep, sweep
from tasks.errors import MethodError, unknown
from tasks.pairs import PromptPairs

K = TypeVar("K")

PEEKS: Mapping[str, str] = {
    "abp": "full peek in the transfer blocks, self peek after them",
    "causal": "every token sees all before it in the transfer blocks, self peek after them",
    "window": "every token sees itself, the two before it and the first; self peek after them",
    "no-bos": "as abp, but the first token is hidden from all others",
    "no-attention": "as abp, but where a token would see itself and the first, it attends to none",
}

Cuts = Mapping[int, Bool[Tensor, "h s"]]
"""Per block, the columns that the last token may not see, head by head."""


@dataclass(frozen=True)
class Stages:
    """A batch of prompts of one length on its way through the three stages."""

    model: Model
    batch: Batch
    frame: Frame
    bos: bool
    peek: str = "abp"

    @classmethod
    def of(cls, model: Model, batch: Batch, bos: bool, peek: str = "abp") -> Stages:
        """The stages of one batch.

        Raises:
            MethodError: an unknown peek, or prompts of several lengths.
        """
        if peek not in PEEKS:
            raise MethodError(unknown("peek", peek, PEEKS))
        if not bool(batch.mask.all()):
            lengths = sorted({int(length) for length in batch.mask.sum(1)})
            raise MethodError(
                f"prompts of {', '.join(map(str, lengths))} tokens; the stages need one length"
            )
        return cls(model, batch, model.frame(batch.mask), bos, peek)

    def waited(self, means: MeanActivations, wait: int) -> Float[Tensor, "b s d"]:
        """The residual stream after block ``wait``, every token's replaced by its mean."""
        stream = means.at(waiting_point(wait), self.batch.clean, self.batch.mask)
        return stream.to(self.model.dtype).expand(*self.batch.mask.shape, -1)

    @undisturbed
    def transfer(
        self, layer: int, x: Float[Tensor, "b s d"], cuts: Cuts | None = None, tap: Tap = no_tap
    ) -> Float[Tensor, "b s d"]:
        """One block in which the last token peeks at all others, without what is cut."""
        return run_block(
            self.model.blocks[layer], x, self.frame, chain(self._full(layer, cuts), tap)
        )

    def finish(
        self, layer: int, x: Float[Tensor, "b s d"], tap: Tap = no_tap
    ) -> Float[Tensor, "b v"]:
        """Logits when, from block ``layer`` on, the last token is by itself.

        Only the first and the last row are computed: nobody sees the others.
        """
        ends = [0, x.shape[1] - 1]
        blocks = self.model.blocks[layer:]
        alone = self._alone(blocks, ends)
        frame = self.frame.only(ends)
        return self.model.run_from(layer, x[:, ends], frame, chain(alone, tap))

    def run(
        self,
        means: MeanActivations,
        wait: int,
        transfer: int,
        cuts: Cuts | None = None,
        tap: Tap = no_tap,
    ) -> Float[Tensor, "b v"]:
        """Logits of one All-for-One subgraph."""
        x = self.waited(means, wait)
        for layer in range(wait + 1, wait + 1 + transfer):
            x = self.transfer(layer, x, cuts, tap)
        return self.finish(wait + 1 + transfer, x, tap)

    def _full(self, layer: int, cuts: Cuts | None) -> Tap:
        mask = self.batch.mask
        allowed = (window_peek if self.peek == "window" else full_peek)(mask, self.bos)
        if self.peek == "causal":
            allowed = torch.ones_like(allowed)
        if self.peek == "no-bos":
            allowed = hide_first(allowed, mask)
        if cuts is not None and layer in cuts:
            allowed = allowed.repeat(1, self.model.anatomy.n_heads, 1, 1)
            allowed[:, :, -1] &= ~cuts[layer]
        tap: Tap = Attention({layer: allowed})
        return chain(tap, Silent(others=True)) if self.peek == "no-attention" else tap

    def _alone(self, blocks: Iterable[Block], ends: list[int]) -> Tap:
        if self.peek == "no-attention":
            return Silent(others=False)
        allowed = self_peek(self.batch.mask, self.bos)
        if self.peek == "no-bos":
            allowed = hide_first(allowed, self.batch.mask)
        return Attention(
            {
                block.layer: (allowed & self.frame.visible(block.window))[:, :, ends][..., ends]
                for block in blocks
            }
        )


@dataclass(frozen=True)
class Silent:
    """A tap under which attention writes nothing: at all tokens, or (``others``) but the last."""

    others: bool

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:  # noqa: ARG002
        """Zero instead of what attention writes."""
        if kind != "attn_out":
            return value
        value = value.clone()
        value[:, : -1 if self.others else None] = 0
        return value


def waiting_point(wait: int) -> Point:
    """The point that holds the residual stream after block ``wait``; -1 is the embedding."""
    return ("input", 0) if wait < 0 else ("resid_post", wait)


def waiting_points(model: Model) -> list[Point]:
    """The points of all waits, from -1 on."""
    return [waiting_point(wait) for wait in range(-1, model.anatomy.n_layers)]


def same_first_token(pairs: PromptPairs) -> bool:
    """Whether all clean prompts start with one token, which then is taken for BOS."""
    starts = pairs.clean[np.arange(len(pairs)), pairs.mask.argmax(1)]
    return bool((starts == starts[0]).all())


@torch.no_grad()
def full_run(
    model: Model, pairs: PromptPairs, batch_size: int | Sweep = 64
) -> Bool[np.ndarray, " n"]:
    """Whether the unmodified model's top token is an answer, prompt by prompt."""
    options = Sweep.of(batch_size)
    return _hits(model, pairs, lambda b: [model.run(b.clean, b.mask)], [0], options)[0]


@torch.no_grad()
def waiting_alone(
    model: Model,
    pairs: PromptPairs,
    means: MeanActivations,
    batch_size: int | Sweep = 64,
) -> dict[int, Bool[np.ndarray, " n"]]:
    """Correct or not, by W, when only the stream after block W is replaced; the rest is intact."""
    waits = range(-1, model.anatomy.n_layers)

    def work(batch: Batch) -> Iterator[Tensor]:
        stages = Stages.of(model, batch, True)
        for wait in waits:
            yield model.run_from(wait + 1, stages.waited(means, wait), stages.frame)

    return _hits(model, pairs, work, waits, Sweep.of(batch_size))


@torch.no_grad()
def grid(
    model: Model,
    pairs: PromptPairs,
    means: MeanActivations,
    bos: bool,
    peek: str = "abp",
    batch_size: int | Sweep = 64,
) -> dict[tuple[int, int], Bool[np.ndarray, " n"]]:
    """Correct or not, by (W, T), for every subgraph there is."""
    layers = model.anatomy.n_layers
    points = [(wait, t) for wait in range(-1, layers) for t in range(layers - wait)]
    options = Sweep.of(batch_size)
    stages = partial(Stages.of, model, bos=bos, peek=peek)
    return _hits(model, pairs, lambda b: _batch_grid(stages(b), means), points, options)


def grid_size(layers: int) -> int:
    """How many subgraphs there are."""
    return (layers + 1) * (layers + 2) // 2


def _batch_grid(stages: Stages, means: MeanActivations) -> Iterator[Tensor]:
    """Logits of every subgraph, wait by wait; transfers of one wait share their beginning."""
    layers = stages.model.anatomy.n_layers
    for wait in range(-1, layers):
        x = stages.waited(means, wait)
        for layer in range(wait + 1, layers + 1):
            yield stages.finish(layer, x)
            if layer < layers:
                x = stages.transfer(layer, x)


@torch.no_grad()
def necessity(
    model: Model,
    pairs: PromptPairs,
    bos: bool,
    batch_size: int | Sweep = 64,
) -> dict[int, Bool[np.ndarray, " n"]]:
    """Correct or not, by block, when the last token sees no other there; the rest is intact.

    Itself it always sees, and the first token where that is BOS.
    """
    layers = range(model.anatomy.n_layers)

    def work(batch: Batch) -> Iterator[Tensor]:
        allowed = cut_last(batch.mask, bos)
        for layer in layers:
            yield model.run(batch.clean, batch.mask, Attention({layer: allowed}))

    return _hits(model, pairs, work, layers, Sweep.of(batch_size))


def _hits(
    model: Model,
    pairs: PromptPairs,
    work: Callable[[Batch], Iterable[Tensor]],
    keys: Collection[K],
    options: Sweep,
) -> dict[K, Bool[np.ndarray, " n"]]:
    """Correct or not by key, from the logits that ``work`` gives for every key in their order."""

    def judged(batch: Batch) -> Bool[np.ndarray, "keys b"]:
        rows = []
        for logits in work(batch):
            rows.append(correct(logits, batch))
            options.tell(len(batch))
        return torch.stack(rows).cpu().numpy()

    hits = np.concatenate([*sweep(model, pairs, judged, options, len(keys))], axis=1)
    return dict(zip(keys, hits, strict=True))


def correct(logits: Float[Tensor, "b v"], batch: Batch) -> Bool[Tensor, " b"]:
    """Whether the top token is one of the answers."""
    answers = torch.tensor(batch.pairs.answer, device=logits.device)
    return (logits.argmax(-1)[:, None] == answers).any(1)
