"""ALiBi: attention falls off linearly with distance, by a slope for each head.

Since a softmax ignores what is added to all scores of a query equally, the bias may count from the
first key instead of from the query: ``slope * position of the key``.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor

KeyBias = Callable[[Int[Tensor, "b k"]], Float[Tensor, "b h k"]]


def slopes_of(bias: Float[Tensor, "*h 2"]) -> Float[Tensor, " h"]:
    """The slopes from the bias that a family's own function gives to two keys in a row."""
    return (bias[..., 1] - bias[..., 0]).flatten().float()


def linear(slopes: Float[Tensor, " h"]) -> KeyBias:
    """``slope * position``."""
    return lambda keys: slopes.to(keys.device)[:, None] * keys[:, None]
