"""Edges whose receiver answers exactly and whose consequences are linearised.

Between the exact effect and a first-order estimate: the receiving head or MLP is computed with
the patched input, through its norm, softmax and activation function, and what that changes in
its output is multiplied by the metric's gradient there. It answers what an edge does alone; which
edges carry a behaviour together is another question.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from patching.activation import ExactSweep
from patching.forward import write_mlp
from patching.linearised import Kinds, Linearisation
from patching.norms import precise
from patching.setting import Setting

KINDS = Kinds.scoring(("input", "z", "attn_raw", "mlp_out"))
"""Kinds of points of both runs, and of gradients, that these scores need."""


class ReceiverSweep(ExactSweep):
    """Scores of all edges from one pass of a linearisation."""

    def __init__(self, setting: Setting, linearised: Linearisation) -> None:
        super().__init__(setting, KINDS.read)
        (self.each,) = linearised.passes

    def _gradient(self, kind: str, layer: int) -> Tensor:
        return self.each.gradients.grads[kind, layer][:, self.kept.first :]

    @override
    def _each_head(self, layer: int, z: Float[Tensor, "u b s h e"]) -> Float[Tensor, "h u b"]:
        change = precise(z) - precise(self.kept.tail("z", layer))
        return self.base + (change * self._gradient("z", layer)).sum((2, 4)).permute(2, 0, 1)

    @override
    def _edges_into(self, kind: str, layer: int, deltas: Tensor) -> Float[Tensor, "u b"]:
        if kind == "final_in":
            return super()._edges_into(kind, layer, deltas)
        block, base = self.setting.model.blocks[layer], self.kept.tail(kind, layer)
        before, gradient = self.kept.tail("mlp_out", layer), self._gradient("mlp_out", layer)
        effects = []
        for chunk in deltas.split(self.rows):
            patched = (base - chunk).to(base.dtype).flatten(0, 1)
            out = write_mlp(block, patched).unflatten(0, (len(chunk), -1))
            change = precise(out) - precise(before)
            effects.append(self.base + (change * gradient).sum((2, 3)))
        return torch.cat(effects)
