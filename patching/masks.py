"""Taking attention away: which query may look at which key, per layer and per head.

Attention-based peeking (Mamidanna et al. 2025, arXiv 2509.09650) is made of two such masks: under
a *full peek* the last token sees everything and every other token sees itself and the first token
of the prompt (BOS); under a *self peek* the last token sees no more than that either. A *window
peek* lets every token see the few before it, so that news travels from token to token. Masks are
applied at the attention scores, after the causal mask and any sliding window, so they only ever
take away; weights are renormalised by the softmax.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

Allowed = Bool[Tensor, "b h q k"]


@dataclass(frozen=True)
class Attention:
    """A tap that keeps, in some layers, only the attention that is allowed there.

    ``allowed[layer]`` is ``[b, 1, q, k]`` the same for all heads, or ``[b, h, q, k]``.
    """

    allowed: Mapping[int, Allowed]

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """Scores that are not allowed become the lowest number, as under the causal mask."""
        if kind != "scores" or layer not in self.allowed:
            return value
        return value.masked_fill(~self.allowed[layer], torch.finfo(value.dtype).min)

    def wants(self, kind: str, layer: int) -> bool:
        """The scores of its layers."""
        return kind == "scores" and layer in self.allowed


def self_peek(mask: Bool[Tensor, "b s"], bos: bool = True) -> Bool[Tensor, "b 1 s s"]:
    """Every token sees itself and, with ``bos``, the first token of its prompt."""
    length = mask.shape[1]
    own = torch.eye(length, dtype=torch.bool, device=mask.device)
    allowed = own.expand(len(mask), -1, -1).clone()
    if bos:
        allowed |= _first(mask)[:, None, :]
    return allowed[:, None]


def full_peek(mask: Bool[Tensor, "b s"], bos: bool = True) -> Bool[Tensor, "b 1 s s"]:
    """As :func:`self_peek`, except that the last token sees every token before it."""
    allowed = self_peek(mask, bos)
    allowed[:, :, -1] |= mask[:, None]
    return allowed


def window_peek(
    mask: Bool[Tensor, "b s"], bos: bool = True, width: int = 2
) -> Bool[Tensor, "b 1 s s"]:
    """Every token, the last included, sees itself, the ``width`` before it and the first."""
    square = mask.new_ones(mask.shape[1], mask.shape[1])
    near = square.tril().triu(-width)
    return self_peek(mask, bos) | (near & mask[:, None, :])[:, None]


def cut_last(mask: Bool[Tensor, "b s"], bos: bool = True) -> Bool[Tensor, "b 1 s s"]:
    """Only the last token is cut off: it sees itself and the first token; others see all."""
    allowed = torch.ones_like(self_peek(mask, bos))
    allowed[:, :, -1] = self_peek(mask, bos)[:, :, -1]
    return allowed


def on_heads(
    allowed: Bool[Tensor, "b 1 q k"], heads: Iterable[int], n_heads: int
) -> Bool[Tensor, "b h q k"]:
    """The mask for some heads alone; the others keep all their attention."""
    chosen = torch.zeros(n_heads, dtype=torch.bool, device=allowed.device)
    chosen[list(heads)] = True
    return allowed | ~chosen[None, :, None, None]


def _first(mask: Bool[Tensor, "b s"]) -> Bool[Tensor, "b s"]:
    """Where the first real token of every left-padded prompt is."""
    return mask & (mask.long().cumsum(1) == 1)


def hide_first(
    allowed: Bool[Tensor, "b h q k"], mask: Bool[Tensor, "b s"]
) -> Bool[Tensor, "b h q k"]:
    """The same mask with the first token of every prompt seen by nobody but itself."""
    own = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return allowed & ~(_first(mask)[:, None, None, :] & ~own)
