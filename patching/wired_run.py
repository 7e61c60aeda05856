"""One run of one circuit, receiver by receiver: only what its edges reach is computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching import writes
from patching.blocks import Block
from patching.changes import Changes, Reading
from patching.forward import head_outputs, write_mlp
from patching.frame import Frame
from patching.in_use import undisturbed
from patching.model import Model
from patching.ops import Point
from patching.ports import head_reads

if TYPE_CHECKING:
    from patching.circuit_run import Wiring

Watch = Callable[[Reading], Tensor]
READS = {"q": "q", "k": "k_read", "v": "v_read"}
"""The kind of point that holds what a head makes of its input port."""


def read_on(reading: Reading) -> Tensor:
    """What was read, unwatched."""
    return reading.x


@dataclass(frozen=True)
class WiredRun:
    """A circuit's run on one batch.

    ``off`` are the values of the run that stands in outside the circuit, ``clean_input`` the clean
    embedding. Every wired edge carries ``strength`` of its sender's change. ``watch`` is told of
    everything that ports read and returns what they read instead.
    """

    model: Model
    frame: Frame
    off: Mapping[Point, Tensor]
    clean_input: Float[Tensor, "b s d"]
    wiring: Wiring
    strength: float = 1.0
    watch: Watch = read_on

    @undisturbed
    def logits(self) -> Float[Tensor, "b v"]:
        """Logits at the last position."""
        anatomy = self.model.anatomy
        before = self.off["input", 0]
        changes = Changes(before, 1 + anatomy.n_layers * (anatomy.n_heads + 1))
        changes.add([0], (self.clean_input - before)[None])
        for block in self.model.blocks:
            changes = self._layer(block, changes)
        last = anatomy.n_layers
        final = self.off["final_in", last][:, None]
        read = self._read(changes, final, last, "logits", self.wiring.logits[None])
        return self.model.unembed(read[0, :, 0])

    def _layer(self, block: Block, before: Changes) -> Changes:
        anatomy = self.model.anatomy
        # Of the last layer only the last position is read: queries and MLP elsewhere are not
        # computed, while keys and values are read at all positions.
        ending = block.layer == anatomy.n_layers - 1
        changes = before.at_end() if ending else before
        first = 1 + block.layer * (anatomy.n_heads + 1)
        running, heads = self._heads(block, changes, before)
        mlp = self._mlp(block, changes) if anatomy.parallel else None
        changes.add([int(first + head) for head in running], heads)
        mlp = self._mlp(block, changes) if mlp is None else mlp
        changes.add([first + anatomy.n_heads] * len(mlp), mlp)
        return changes

    def _read(
        self,
        changes: Changes,
        off: Float[Tensor, "b s d"],
        layer: int,
        port: str,
        wired: Bool[np.ndarray, "r u"],
        heads: Iterable[int] = (),
    ) -> Float[Tensor, "r b s d"]:
        x = changes.read(off[:, -changes.stack.shape[2] :], wired, self.strength)
        rows = tuple(int(head) for head in heads)
        senders, stack = tuple(changes.senders), changes.stack
        return self.watch(Reading(layer, port, rows, wired, senders, stack, x))

    def _heads(
        self, block: Block, here: Changes, everywhere: Changes
    ) -> tuple[Int[np.ndarray, " h"], Float[Tensor, "h b s d"]]:
        """The heads of a layer that read the circuit, and what they write more.

        Queries are computed where ``here`` has changes, keys and values ``everywhere``.
        """
        layer, wired = block.layer, self.wiring.heads[block.layer]
        running = np.flatnonzero(wired[:, :, everywhere.senders].any((0, 2)))
        if len(running) == 0:
            return running, here.stack[:0]
        q, k, v = (
            self._port(block, port, wired[i], running, here if port == "q" else everywhere)
            for i, port in enumerate(READS)
        )
        length = here.stack.shape[2]
        skipped = self.frame.allowed.shape[1] - length
        rows = self.frame.rows(skipped) if skipped else self.frame
        which = torch.as_tensor(running, device=q.device)
        z = head_outputs(block, q, k, v, rows, key_frame=self.frame, heads=which)
        off = self.off["z", layer][:, -length:]
        if block.ln1_post is None:
            change = (z - off[:, :, running]).permute(2, 0, 1, 3)
            return running, torch.einsum("hbse,hed->hbsd", change, block.W_O[running].to(z.dtype))
        whole = off.index_copy(2, torch.as_tensor(running, device=z.device), z)
        now = writes.head_writes(block, whole, block.attention_output(whole))
        then = writes.head_writes(block, off, self.off["attn_raw", layer][:, -length:])
        # A post-norm makes every head's share depend on all heads, also of those that do not run.
        return np.arange(off.shape[2]), (now - then).transpose(0, 1)

    def _port(
        self,
        block: Block,
        port: str,
        wired: Bool[np.ndarray, "h u"],
        running: Int[np.ndarray, " r"],
        changes: Changes,
    ) -> Float[Tensor, "b s r e"]:
        """Queries, keys or values of the running heads."""
        off, layer = self.off, block.layer
        values = off[READS[port], layer][:, -changes.stack.shape[2] :, running]
        fed = np.flatnonzero(wired[running][:, changes.senders].any(1))
        if len(fed) == 0:
            return values
        heads = running[fed]
        x = self._read(changes, off["resid_pre", layer], layer, port, wired[heads], heads)
        made = head_reads(block, port, block.ln1(x), torch.as_tensor(heads, device=x.device))
        if len(fed) == len(running):
            return made
        return values.index_copy(2, torch.as_tensor(fed, device=made.device), made)

    def _mlp(self, block: Block, changes: Changes) -> Float[Tensor, "m b s d"]:
        """What the MLP writes more, one row; none where it reads nothing of the circuit."""
        layer, wired = block.layer, self.wiring.mlps[block.layer][None]
        if not wired[:, changes.senders].any():
            return changes.stack[:0]
        x = self._read(changes, self.off["mlp_in", layer], layer, "mlp", wired)[0]
        off = self.off["mlp_out", layer][:, -x.shape[1] :]
        return (write_mlp(block, x) - off)[None]
