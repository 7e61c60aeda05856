"""What the senders of a circuit run write more than in the corrupted run, as it runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Changes:
    """Changes of the senders so far; senders that write as before take no room.

    Sender first, so that mixing them for all ports of a layer is one matrix product.
    """

    def __init__(self, like: Float[Tensor, "b s d"], room: int) -> None:
        self.room = room
        self.senders: list[int] = []
        # Autograd needs every part to stay as it was read; without it one buffer is filled.
        self._buffer = None if torch.is_grad_enabled() else like.new_empty(room, *like.shape)
        self._stack = like.new_empty(0, *like.shape)

    def add(self, senders: Iterable[int], change: Float[Tensor, "u b s d"]) -> None:
        """Append what some senders write more."""
        start = len(self.senders)
        self.senders += senders
        if self._buffer is None:
            self._stack = torch.cat([self._stack, change])
        else:
            self._buffer[start : len(self.senders)] = change
            self._stack = self._buffer[: len(self.senders)]

    @property
    def stack(self) -> Float[Tensor, "u b s d"]:
        """All of them, in the order of ``senders``."""
        return self._stack

    def read(
        self, off: Float[Tensor, "b s d"], wired: Bool[np.ndarray, "r u"], strength: float
    ) -> Float[Tensor, "r b s d"]:
        """What ports read: the corrupted stream plus the changes wired to them."""
        weights = torch.as_tensor(wired[:, self.senders], device=off.device).to(off.dtype)
        mixed = torch.addmm(off.reshape(1, -1), weights, self._stack.flatten(1), alpha=strength)
        return mixed.unflatten(1, off.shape)

    def at_end(self) -> Changes:
        """The same at the last position alone."""
        ends = Changes(self._stack[0, :, -1:], self.room)
        ends.add(self.senders, self._stack[:, :, -1:])
        return ends


@dataclass(frozen=True)
class Reading:
    """One look of some ports at the residual stream during a circuit run.

    ``port`` is q, k or v (then ``heads`` says of which heads), ``mlp`` or ``logits``. Row ``r``
    read ``x[r]``, in which ``wired[r]`` of ``senders`` had their changes, ``stack``.
    """

    layer: int
    port: str
    heads: tuple[int, ...]
    wired: Bool[np.ndarray, "r u"]
    senders: tuple[int, ...]
    stack: Float[Tensor, "u b s d"]
    x: Float[Tensor, "r b s d"]
