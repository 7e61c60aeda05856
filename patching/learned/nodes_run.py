"""One masked run over nodes, and the gradient of its loss at every mask.

Every node writes ``off + m (what it writes now - off)`` to the stream, which all later nodes read
whole. With masks of 0 and 1 that is the circuit of the kept nodes and all edges among them. Under a
post-norm a node's write is its share of the layer's, as in :func:`patching.nodes.heads.head_writes`
and :func:`patching.nodes.neurons.amounts`. There is one mask a sender, so plain autograd serves.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from patching.blocks import Block
from patching.in_use import undisturbed
from patching.learned.edges_run import LossOf
from patching.learned.inputs import Inputs
from patching.model import Model
from patching.nodes import neurons
from patching.nodes.heads import head_writes
from patching.nodes.layout import Layout
from patching.ops import Point


@dataclass(frozen=True)
class NodesRun:
    """Masked runs of some prompt pairs, with one mask for every node that sends."""

    model: Model
    layout: Layout
    inputs: Inputs

    @undisturbed
    def logits(self, masks: Float[Tensor, " nodes"]) -> Float[Tensor, "b v"]:
        """Logits at the last position."""
        off = self.inputs.off["input", 0]
        tap = _Masking(self, masks.to(off))
        x = tap("input", 0, self.inputs.clean_input)
        return self.model.run_from(0, x, self.model.frame(self.inputs.mask), tap)

    def gradient(
        self, masks: Float[Tensor, " nodes"], loss_of: LossOf
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " nodes"]]:
        """The loss of the logits, and its gradient at every mask."""
        with torch.enable_grad():
            leaf = masks.detach().requires_grad_()
            loss = loss_of(self.logits(leaf))
            (slopes,) = torch.autograd.grad(loss, [leaf])
        return loss.detach(), slopes


@dataclass
class _Masking:
    """A tap that masks what nodes write."""

    run: NodesRun
    masks: Float[Tensor, " nodes"]
    held: dict[str, Tensor] = field(default_factory=dict)

    def wants(self, kind: str, layer: int) -> bool:
        """What nodes write, and what a post-norm's share needs."""
        del layer
        return kind in ("z", "attn_raw", "attn_out", "mlp_post", "mlp_raw", "mlp_out")

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        off = self.run.inputs.off
        if kind == "input":
            return off[kind, layer] + self.masks[0] * (value - off[kind, layer])
        if kind not in ("z", "attn_raw", "attn_out", "mlp_post", "mlp_raw", "mlp_out"):
            return value
        block = self.run.model.blocks[layer]
        nodes = "head" if kind in ("z", "attn_raw", "attn_out") else "mlp"
        mine = self.masks[self.run.layout.group(nodes, layer).slice]
        if kind == "z":
            value = self._mixed((kind, layer), value, mine[:, None])
        elif kind == "mlp_post" and self.run.layout.nodes == "neurons":
            value = self._mixed((kind, layer), value, mine)
        elif kind == "attn_out" and block.ln1_post is not None:
            return self._heads_share(block, mine)
        elif kind == "mlp_out":
            if self.run.layout.nodes == "heads":
                return self._mixed((kind, layer), value, mine)
            return value if block.ln2_post is None else self._neurons_share(block, mine)
        self.held[kind] = value
        return value

    def _mixed(self, point: Point, value: Tensor, mask: Tensor) -> Tensor:
        off = self.run.inputs.off[point]
        return off + mask * (value - off)

    def _heads_share(self, block: Block, masks: Float[Tensor, " h"]) -> Float[Tensor, "b s d"]:
        """The corrupted run's write, and the masked change of every head's share of it.

        A head that is out has the corrupted run's ``z``, but its share still changes with the
        scale of the whole; a circuit without the head does not carry that.
        """
        off, layer = self.run.inputs.off, block.layer
        now = head_writes(block, self.held["z"], self.held["attn_raw"])
        then = head_writes(block, off["z", layer], off["attn_raw", layer])
        return off["attn_out", layer] + torch.einsum("h,bhsd->bsd", masks, now - then)

    def _neurons_share(self, block: Block, masks: Float[Tensor, " n"]) -> Float[Tensor, "b s d"]:
        off, layer = self.run.inputs.off, block.layer
        now = neurons.amounts(block, self.held["mlp_post"], self.held["mlp_raw"])
        then = neurons.amounts(block, off["mlp_post", layer], off["mlp_raw", layer])
        change = (now - then) * masks
        return off["mlp_out", layer] + change @ neurons.directions(block, change)
