"""What the experts of a layer write: added up, or kept apart for a look at single ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from patching.experts import tokens_of
from patching.ops import Ops, RoutedTokens, substitute

Answer = tuple[int, Int[Tensor, " r"], Float[Tensor, "r d"]]
"""An expert's number, the tokens it answers, and what it writes there."""


def answers(
    ops: Ops, routed: RoutedTokens, weights: Float[Tensor, "t e"], scale: float, asked: bool = False
) -> Iterator[Answer]:
    """What each expert that answers writes, times its weight, in order of their numbers.

    ``asked`` says that someone asks for the gradient at the weights: see
    :meth:`RoutedTokens.answering`.
    """
    for index, rows in tokens_of(routed.answering(weights, asked)):
        yield index, rows, scaled(ops.expert(routed, index, rows, weights), scale)


def scaled(written: Float[Tensor, "t d"], scale: float) -> Float[Tensor, "t d"]:
    """As it counts in what the layer writes."""
    return written if scale == 1 else written * scale


def together(written: Iterator[Answer], n: Float[Tensor, "b s d"]) -> Float[Tensor, "b s d"]:
    """The sum over experts."""
    out = torch.zeros_like(n).flatten(0, -2)
    for _, rows, each in written:
        out = out.index_add(0, rows, each)
    return out.view_as(n)


def kept_apart(
    written: Iterator[Answer], weights: Float[Tensor, "b s e"], n: Float[Tensor, "b s d"]
) -> Float[Tensor, "b s e d"]:
    """What every expert writes at every token, zero where it does not answer."""
    experts, width = weights.shape[-1], n.shape[-1]
    apart = n.new_zeros(weights.numel(), width)
    if found := list(written):
        places = torch.cat([rows * experts + index for index, rows, _ in found])
        apart = apart.index_add(0, places, torch.cat([each for _, _, each in found]))
    return apart.view(*weights.shape, width)


def added_up(written: Float[Tensor, "b s e d"]) -> Float[Tensor, "b s d"]:
    """The sum over experts that are kept apart.

    One after the other, as in :func:`together`, so that both round in the
    same way. The gradient is one value for all experts, not a copy for each.
    """
    each = written.detach().unbind(-2)
    total = each[0]
    for one in each[1:]:
        total = total + one
    return substitute(total, lambda g: (g.unsqueeze(-2).expand_as(written),), written)
