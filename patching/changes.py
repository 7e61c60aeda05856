"""What the senders of a circuit run write more than in the corrupted run, as it runs.

Sender first, so that mixing them for all ports of a layer is one matrix product. What neurons write
is kept in factors, an amount per position and a direction each, and multiplied out only in sums.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patching.nodes.layout import Ports


@dataclass(frozen=True)
class Factors:
    """Changes ``amounts[n] x directions[n]`` of some senders."""

    senders: tuple[int, ...]
    amounts: Float[Tensor, "n b s"]
    directions: Float[Tensor, "n d"]

    def mixed(self, weights: Float[Tensor, "r n"]) -> Float[Tensor, "r b s d"]:
        """Sums of the changes, a row of weights each."""
        rows = [
            torch.einsum("nbs,nd->bsd", self.amounts * w[:, None, None], self.directions)
            for w in weights
        ]
        return torch.stack(rows)

    def product(self, gradient: Float[Tensor, "r b s d"]) -> Float[Tensor, "r n b"]:
        """``sum over s and d of change . gradient``, for every row of gradients."""
        amounts, directions = self.amounts.detach(), self.directions.detach().T
        rows = [torch.einsum("nbs,bsn->nb", amounts, g @ directions) for g in gradient]
        return torch.stack(rows)


class Changes:
    """Changes of the senders so far; senders that write as before take no room."""

    def __init__(self, like: Float[Tensor, "b s d"], room: int) -> None:
        self.room = room
        self.dense: list[int] = []
        self.factors: list[Factors] = []
        # Autograd needs every part to stay as it was read; without it one buffer is filled.
        self._buffer = None if torch.is_grad_enabled() else like.new_empty(room, *like.shape)
        self._stack = like.new_empty(0, *like.shape)

    def senders(self, reads: int) -> list[int]:
        """Those of the first ``reads`` senders that write more, in the order of :meth:`product`."""
        dense = self.dense[: bisect_left(self.dense, reads)]
        return [*dense, *(s for each in self.factors for s in each.senders if s < reads)]

    @property
    def length(self) -> int:
        """At how many positions, counted from the last."""
        return self._stack.shape[2]

    @property
    def nothing(self) -> Float[Tensor, "0 b s d"]:
        """No change of no sender."""
        return self._stack[:0]

    def add(self, senders: Iterable[int], change: Float[Tensor, "u b s d"]) -> None:
        """Append what some senders write more."""
        start = len(self.dense)
        self.dense += senders
        if self._buffer is None:
            self._stack = torch.cat([self._stack, change])
        else:
            self._buffer[start : len(self.dense)] = change
            self._stack = self._buffer[: len(self.dense)]

    def add_factors(self, factors: Factors) -> None:
        """Append what some neurons write more."""
        if factors.senders:
            self.factors.append(factors)

    def read(
        self, off: Float[Tensor, "b s d"], wired: Bool[np.ndarray, "r u"], strength: float
    ) -> Float[Tensor, "r b s d"]:
        """What ports read: the corrupted stream plus the changes wired to them."""
        off = off[:, -self.length :]
        weights = torch.as_tensor(wired, device=off.device).to(off.dtype)
        mixed = torch.addmm(
            off.reshape(1, -1), weights[:, self.dense], self._stack.flatten(1), alpha=strength
        ).unflatten(1, off.shape)
        for each in self.factors:
            if wired[:, each.senders].any():
                mixed = mixed + strength * each.mixed(weights[:, each.senders])
        return mixed

    def brought(self, wired: Bool[np.ndarray, "r u"]) -> Float[Tensor, "r b s d"]:
        """The changes wired to some ports alone."""
        return self.read(torch.zeros_like(self._stack[0]), wired, 1.0)

    def product(self, gradient: Float[Tensor, "r b s d"], reads: int) -> Float[Tensor, "r u b"]:
        """``sum over s and d of change . gradient``, for the senders of :meth:`senders`."""
        dense = self._stack[: bisect_left(self.dense, reads)].detach()
        parts = [torch.einsum("rbsd,ubsd->rub", gradient, dense)]
        parts += [each.product(gradient) for each in self.factors if each.senders[0] < reads]
        return torch.cat(parts, dim=1)

    def at_end(self) -> Changes:
        """The same at the last position alone."""
        ends = Changes(self._stack[0, :, -1:], self.room)
        ends.add(self.dense, self._stack[:, :, -1:])
        ends.factors = [replace(each, amounts=each.amounts[:, :, -1:]) for each in self.factors]
        return ends


@dataclass(frozen=True)
class Reading:
    """One look of some ports at the residual stream during a circuit run.

    They are the ``units`` of a group of ports. Row ``r`` read ``x[r]``, in which the senders that
    ``wired[r]`` names had their ``changes``.
    """

    group: Ports
    units: tuple[int, ...]
    wired: Bool[np.ndarray, "r u"]
    changes: Changes
    x: Float[Tensor, "r b s d"]
