"""Directions of the residual stream that raise a token's logit, in a named basis.

``raw`` is the token's own row of the unembedding. What raises a logit is rather that row times
the final norm's weight, because the stream is normalised first (``folded``); where that norm
removes the mean, the direction's own mean does nothing either, and the mean over the vocabulary
moves all logits by the same amount (``folded_centred``: both are taken out, as TransformerLens does
by default and the notebook of Li & Gao, arXiv 2405.03205, relies on).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from patching.model import Model
from tasks.errors import EditError, unknown

BASES = ("raw", "folded", "folded_centred")


def default_basis(model: Model) -> str:
    """``folded_centred`` for models with LayerNorm, ``folded`` for those with RMS norms."""
    return "folded_centred" if model.final_norm.centred else "folded"


def basis_fault(model: Model, basis: str) -> str | None:
    """Why the basis does not fit the model, or None."""
    if basis not in BASES:
        return unknown("basis", basis, BASES)
    if basis == "folded_centred" and not model.final_norm.centred:
        return (
            "basis folded_centred takes out the mean of a direction, which this model's RMS norm "
            "does not remove; use folded or raw"
        )
    return None


@torch.no_grad()
def unembedding(model: Model, basis: str) -> Float[Tensor, "v d"]:
    """One direction per token.

    Raises:
        EditError: a basis that does not exist or does not fit the model.
    """
    if fault := basis_fault(model, basis):
        raise EditError(fault)
    return directions_of(model, basis, slice(None))


def directions_of(
    model: Model, basis: str, tokens: Int[Tensor, " t"] | slice
) -> Float[Tensor, "t d"]:
    """The directions of some tokens, without forming those of all."""
    weight = model.unembedding
    rows = weight[tokens].float()
    if basis == "raw":
        return rows
    scale = model.final_norm.weight.detach().float()
    if basis == "folded":
        return rows * scale
    # The mean over the vocabulary of what is folded and centred, from that of the weights.
    mean = weight.float().mean(0) * scale
    folded = rows * scale
    return folded - folded.mean(-1, keepdim=True) - (mean - mean.mean())


@torch.no_grad()
def token_direction(model: Model, basis: str, weights: Mapping[int, float]) -> Float[Tensor, " d"]:
    """The weighted sum of some tokens' directions."""
    if fault := basis_fault(model, basis):
        raise EditError(fault)
    ids = torch.tensor(list(weights), device=model.device)
    directions = directions_of(model, basis, ids)
    by = torch.tensor(list(weights.values()), device=directions.device, dtype=directions.dtype)
    direction: Tensor = by @ directions
    return direction
