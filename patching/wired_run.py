"""One run of one circuit, receiver by receiver: only what its edges reach is computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from patching.blocks import Block
from patching.changes import Changes, Factors, Reading
from patching.forward import head_outputs, write_mlp
from patching.frame import Frame
from patching.in_use import undisturbed
from patching.model import Model
from patching.nodes import neurons
from patching.nodes.edges import EdgeSet
from patching.nodes.heads import head_writes
from patching.nodes.layout import Ports
from patching.ops import Point
from patching.ports import head_reads

Watch = Callable[[Reading], Tensor]
READS = {"q": "q", "k": "k_read", "v": "v_read"}
"""The kind of point that holds what a head makes of its input port."""

FIRST = np.zeros(1, dtype=np.int64)
"""The only unit of a group that has one."""

CHUNK_BYTES = 64 * 2**20
"""How much of the streams that neurons read is held at once."""


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
    wiring: EdgeSet
    strength: float = 1.0
    watch: Watch = read_on

    @undisturbed
    def logits(self) -> Float[Tensor, "b v"]:
        """Logits at the last position."""
        layout, before = self.wiring.layout, self.off["input", 0]
        dense = sum(group.count for group in layout.senders if group.kind != "neuron")
        changes = Changes(before, dense)
        changes.add([0], (self.clean_input - before)[None])
        for block in self.model.blocks:
            changes = self._layer(block, changes)
        end = layout.ports[-1]
        final = self.off["final_in", end.layer][:, None]
        read = self._read(changes, final, end, FIRST)
        return self.model.unembed(read[0, :, 0])

    def _layer(self, block: Block, before: Changes) -> Changes:
        # Of the last layer only the last position is read: queries and MLP elsewhere are not
        # computed, while keys and values are read at all positions.
        ending = block.layer == self.model.anatomy.n_layers - 1
        changes = before.at_end() if ending else before
        layout = self.wiring.layout
        first = layout.group("head", block.layer).start
        running, heads = self._heads(block, changes, before)
        if not block.anatomy.parallel:
            changes.add([int(first + head) for head in running], heads)
        self._mlp(block, changes)
        if block.anatomy.parallel:
            changes.add([int(first + head) for head in running], heads)
        return changes

    def _read(
        self,
        changes: Changes,
        off: Float[Tensor, "b s d"],
        group: Ports,
        units: Int[np.ndarray, " r"],
    ) -> Float[Tensor, "r b s d"]:
        wired = self.wiring.rows(group)[units]
        x = changes.read(off, wired, self.strength)
        return self.watch(Reading(group, tuple(units.tolist()), wired, changes, x))

    def _fed(self, changes: Changes, group: Ports) -> Int[np.ndarray, " units"]:
        """The units of a group that read a change."""
        senders = changes.senders(group.reads)
        fed: np.ndarray = np.flatnonzero(self.wiring.rows(group)[:, senders].any(1))
        return fed

    def _heads(
        self, block: Block, here: Changes, everywhere: Changes
    ) -> tuple[Int[np.ndarray, " h"], Float[Tensor, "h b s d"]]:
        """The heads of a layer that read the circuit, and what they write more.

        Queries are computed where ``here`` has changes, keys and values ``everywhere``.
        """
        layer, length = block.layer, here.length
        groups = {port: self.wiring.layout.receiver("head", layer, port) for port in READS}
        running = np.unique(np.concatenate([self._fed(everywhere, g) for g in groups.values()]))
        if len(running) == 0:
            return running, here.nothing
        q, k, v = (
            self._port(block, groups[port], running, here if port == "q" else everywhere)
            for port in READS
        )
        skipped = self.frame.allowed.shape[1] - length
        rows = self.frame.rows(skipped) if skipped else self.frame
        which = torch.as_tensor(running, device=q.device)
        z = head_outputs(block, q, k, v, rows, key_frame=self.frame, heads=which)
        off = self.off["z", layer][:, -length:]
        if block.ln1_post is None:
            change = (z - off[:, :, running]).permute(2, 0, 1, 3)
            return running, torch.einsum("hbse,hed->hbsd", change, block.W_O[running].to(z.dtype))
        whole = off.index_copy(2, torch.as_tensor(running, device=z.device), z)
        now = head_writes(block, whole, block.attention_output(whole))
        then = head_writes(block, off, self.off["attn_raw", layer][:, -length:])
        # A post-norm makes every head's share depend on all heads, also of those that do not run.
        return np.arange(off.shape[2]), (now - then).transpose(0, 1)

    def _port(
        self, block: Block, group: Ports, running: Int[np.ndarray, " r"], changes: Changes
    ) -> Float[Tensor, "b s r e"]:
        """Queries, keys or values of the running heads."""
        off, layer, port = self.off, block.layer, group.port
        assert port is not None
        values = off[READS[port], layer][:, -changes.length :, running]
        fed = np.intersect1d(running, self._fed(changes, group))
        if len(fed) == 0:
            return values
        x = self._read(changes, off["resid_pre", layer], group, fed)
        made = head_reads(block, port, block.ln1(x), torch.as_tensor(fed, device=x.device))
        if len(fed) == len(running):
            return made
        at = torch.as_tensor(np.searchsorted(running, fed), device=made.device)
        return values.index_copy(2, at, made)

    def _mlp(self, block: Block, changes: Changes) -> None:
        """Add what the MLP, or its neurons, write more; nothing where they read no change."""
        layer, layout = block.layer, self.wiring.layout
        senders = layout.group("mlp", layer)
        group = layout.receiver(senders.kind, layer)
        fed = self._fed(changes, group)
        if len(fed) == 0:
            return
        if group.kind == "neuron":
            changes.add_factors(self._neurons(block, changes, group, fed))
            return
        x = self._read(changes, self.off["mlp_in", layer], group, FIRST)[0]
        off = self.off["mlp_out", layer][:, -x.shape[1] :]
        changes.add([senders.start], (write_mlp(block, x) - off)[None])

    def _neurons(
        self, block: Block, changes: Changes, group: Ports, fed: Int[np.ndarray, " n"]
    ) -> Factors:
        """What the neurons of a layer write more, those that read a change computed again."""
        layer, length = block.layer, changes.length
        stream = self.off["mlp_in", layer]
        off = self.off["mlp_post", layer][:, -length:]
        size = max(1, CHUNK_BYTES // (stream[:, -length:].numel() * stream.element_size()))
        post = []
        for start in range(0, len(fed), size):
            some = fed[start : start + size]
            x = self._read(changes, stream, group, some)
            post.append(neurons.answers(block, x, torch.as_tensor(some, device=x.device)))
        made = torch.cat(post, dim=-1)
        which = torch.as_tensor(fed, device=made.device)
        if block.ln2_post is not None:
            # A post-norm makes every neuron's share depend on all of them.
            made, which = off.index_copy(2, which, made), torch.arange(off.shape[-1])
        now = neurons.amounts(block, made, block.neurons_output(off.index_copy(2, which, made)))
        raw = self.off["mlp_raw", layer][:, -length:]
        then = neurons.amounts(block, off[:, :, which], raw)
        first = self.wiring.layout.group("neuron", layer).start
        return Factors(
            tuple(int(first + n) for n in which),
            (now - then).permute(2, 0, 1),
            neurons.directions(block, made)[which],
        )
