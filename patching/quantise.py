"""Weights rounded to few bits for the length of a block, and put back bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from patching.model import Model
from tasks.errors import MethodError

BITS = range(2, 17)


def check_bits(bits: int) -> None:
    """Refuse a number of bits that symmetric rounding does not have.

    Raises:
        MethodError: fewer than 2 or more than 16 bits.
    """
    if bits not in BITS:
        raise MethodError(f"weights are rounded to {BITS[0]} to {BITS[-1]} bits, given {bits}")


def rounded(weight: Float[Tensor, "i o"], bits: int) -> Float[Tensor, "i o"]:
    """Symmetric rounding to ``2^bits - 1`` evenly spaced levels, scaled by output feature.

    ``s * round(w / s)`` with ``s = max|w| / (2^(bits-1) - 1)`` over each column, so that no weight
    moves by more than ``s / 2``.
    """
    check_bits(bits)
    step = weight.abs().amax(0, keepdim=True) / (2 ** (bits - 1) - 1)
    step = torch.where(step == 0, torch.ones_like(step), step)
    return (weight / step).round() * step


@contextmanager
def quantised(model: Model, bits: int = 8) -> Iterator[None]:
    """The model with the matrices of its attention and MLPs rounded (:func:`rounded`).

    Embeddings, the unembedding, norms and biases stay as they are, and so do activations: this
    asks what the weights' precision is for, not what an integer kernel computes.

    Raises:
        MethodError: fewer than 2 or more than 16 bits.
    """
    check_bits(bits)
    weights = [weight for block in model.blocks for weight in block.matrices()]
    saved = [weight.clone() for weight in weights]
    try:
        with torch.no_grad():
            for weight in weights:
                weight.copy_(rounded(weight, bits))
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, saved, strict=True):
                weight.copy_(value)
