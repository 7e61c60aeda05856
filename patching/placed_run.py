"""One run of a circuit whose edges are tied to places, layer by layer.

At token ``t`` in place ``p``, a port reads ``off[t] + sum over senders u with (u -> port, p) kept
of change_u[t]``. A head that reads a change has a new attention pattern ``A`` and new values
``v``; what it writes is

    z[t] = z_off[t] + sum over s with (p(s) -> p(t)) kept of A[t, s] v[s] - A_off[t, s] v_off[s]

so with every pair kept it is the head's own new output, as in a plain circuit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.blocks import Block
from patching.forward import Record, head_outputs, write_mlp
from patching.frame import Frame
from patching.in_use import undisturbed
from patching.model import Model
from patching.nodes.heads import head_writes
from patching.nodes.layout import Ports
from patching.ops import Point
from patching.placed import PlacedEdges
from patching.ports import head_reads

READS = {"q": "q", "k": "k_read", "v": "v_read"}


@dataclass(frozen=True)
class PlacedRun:
    """A circuit's run on one batch.

    ``off`` are the values of the run that stands in outside the circuit, ``clean_input`` the clean
    embedding, ``at`` the number of the place that every token is in (one more than there are for a
    token in none).
    """

    model: Model
    frame: Frame
    off: Mapping[Point, Tensor]
    clean_input: Float[Tensor, "b s d"]
    wiring: PlacedEdges
    at: Int[Tensor, "b s"]

    @undisturbed
    def logits(self) -> Float[Tensor, "b v"]:
        """Logits at the last position."""
        layout, before = self.wiring.layout, self.off["input", 0]
        changes = before.new_zeros(layout.n_senders, *before.shape)
        changes[0] = self.clean_input - before
        for block in self.model.blocks:
            heads = self._heads(block, changes)
            after = layout.group("head", block.layer).slice
            if not block.anatomy.parallel:
                changes[after] = heads
            self._mlp(block, changes)
            changes[after] = heads
        end = layout.ports[-1]
        read = self._read(changes, end, np.zeros(1, dtype=np.int64))[0, :, -1]
        return self.model.unembed(self.off["final_in", end.layer] + read)

    def _read(
        self, changes: Float[Tensor, "u b s d"], group: Ports, units: Int[np.ndarray, " r"]
    ) -> Float[Tensor, "r b s d"]:
        """What some ports read of the changes: at every token those that its place has."""
        rows = self.wiring.kept[group.edges].reshape(group.count, group.reads, -1)[units]
        flat = changes[: group.reads].flatten(1, 2)
        read = flat.new_zeros(len(units), *flat.shape[1:])
        place = self.at.flatten()
        for number in range(rows.shape[-1]):
            which = (place == number).nonzero()[:, 0]
            if len(which) and rows[:, :, number].any():
                wired = torch.as_tensor(rows[:, :, number], device=flat.device).to(flat)
                read[:, which] = torch.einsum("ru,utd->rtd", wired, flat[:, which])
        return read.unflatten(1, self.at.shape)

    def _fed(self, group: Ports) -> Int[np.ndarray, " units"]:
        rows = self.wiring.kept[group.edges].reshape(group.count, -1)
        fed: np.ndarray = np.flatnonzero(rows.any(1))
        return fed

    def _heads(self, block: Block, changes: Float[Tensor, "u b s d"]) -> Float[Tensor, "h b s d"]:
        """What the heads of a layer write more."""
        layer = block.layer
        carried = self._carried(layer)
        groups = {port: self.wiring.layout.receiver("head", layer, port) for port in READS}
        off_z = self.off["z", layer]
        if not carried.any() or not any(len(self._fed(group)) for group in groups.values()):
            shape = off_z.shape[2], *self.clean_input.shape
            return self.clean_input.new_zeros(shape)
        q, k, v = (self._port(block, groups[port], changes) for port in READS)
        tap = Record(("pattern",))
        head_outputs(block, q, k, v, self.frame, tap)
        both = (
            (tap.values["pattern", layer], v),
            (self.off["pattern", layer], self.off["v_read", layer]),
        )
        now, then = (
            torch.einsum("bhqk,bkhe->bqhe", torch.where(carried, pattern, 0.0), value)
            for pattern, value in both
        )
        return self._written(block, off_z + (now - then), off_z)

    def _carried(self, layer: int) -> Bool[Tensor, "b h q k"]:
        """Between which tokens each head's crossing edges carry."""
        kept = np.pad(self.wiring.crossing[layer], ((0, 0), (0, 1), (0, 1)))
        table = torch.as_tensor(kept, device=self.at.device)
        return table[:, self.at[:, :, None], self.at[:, None, :]].transpose(0, 1)

    def _port(
        self, block: Block, group: Ports, changes: Float[Tensor, "u b s d"]
    ) -> Float[Tensor, "b s h e"]:
        """Queries, keys or values of all heads; those that read no change as they were."""
        port = str(group.port)
        values = self.off[READS[port], block.layer]
        fed = self._fed(group)
        if len(fed) == 0:
            return values
        x = self.off["resid_pre", block.layer] + self._read(changes, group, fed)
        which = torch.as_tensor(fed, device=x.device)
        return values.index_copy(2, which, head_reads(block, port, block.ln1(x), which))

    def _written(
        self, block: Block, z: Float[Tensor, "b s h e"], off: Float[Tensor, "b s h e"]
    ) -> Float[Tensor, "h b s d"]:
        """What the heads write more to the stream."""
        if block.ln1_post is None:
            return head_writes(block, z - off, None).transpose(0, 1)
        now = head_writes(block, z, block.attention_output(z))
        then = head_writes(block, off, self.off["attn_raw", block.layer])
        return (now - then).transpose(0, 1)

    def _mlp(self, block: Block, changes: Float[Tensor, "u b s d"]) -> None:
        """Set what the MLP writes more; nothing where it reads no change."""
        layer, layout = block.layer, self.wiring.layout
        group = layout.receiver("mlp", layer)
        if len(self._fed(group)) == 0:
            return
        read = self._read(changes, group, np.zeros(1, dtype=np.int64))[0]
        out = write_mlp(block, self.off["mlp_in", layer] + read)
        changes[layout.group("mlp", layer).start] = out - self.off["mlp_out", layer]
