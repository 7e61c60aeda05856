"""How far a training decides, and what follows.

A few hundred steps settle which edges make small circuits. What the many weak ones are worth, of
which each step moves thousands at once by noise, they do not settle, while two-run secants rank
those well. So the ranking is the trained one up to some size and goes on by secant; the size is the
one of a few at which larger circuits have the lowest loss on the held-out pairs.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from patching.learned.training import Training

DECIDED = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
"""The shares of candidates up to which training may decide."""

SIZES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75)
"""The shares of candidates at which circuits are run to choose among them."""


DIGITS = 9
"""Of shares that are ranked: what is below is rounding."""


def followed(
    training: Training, shares: Float[np.ndarray, " n"], cheap: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], int]:
    """The shares with their weak end ordered by the cheap ranking, and up to where they are kept.

    The values stay; who has which changes beyond that place.
    """
    order, n = np.argsort(-np.round(shares, DIGITS), kind="stable"), len(shares)
    sizes = sorted({max(1, round(share * n)) for share in SIZES})
    places = sorted({max(1, round(share * n)) for share in DECIDED}, reverse=True)
    known: dict[bytes, float] = {}

    def loss(ranked: Int[np.ndarray, " n"]) -> float:
        losses = []
        for size in sizes:
            kept = np.sort(ranked[:size])
            if (key := kept.tobytes()) not in known:
                known[key] = training.held_out_loss(kept)
            losses.append(known[key])
        return float(np.mean(losses))

    ranked = {place: _ranked(order, cheap, place) for place in places}
    # Of equal losses the first counts, up to which training decides most.
    best = min(places, key=lambda place: loss(ranked[place]))
    again = np.empty_like(shares)
    again[ranked[best]] = shares[order]
    return again, best


def _ranked(
    order: Int[np.ndarray, " n"], cheap: Float[np.ndarray, " n"], place: int
) -> Int[np.ndarray, " n"]:
    """The trained order up to a place, and the others from there on."""
    # Of equal ones the first in the order of computation, whatever rounding made of training.
    rest = np.sort(order[place:])
    return np.concatenate([order[:place], rest[np.argsort(-cheap[rest], kind="stable")]])
