"""Exact effects of edges between heads and single neurons, by their definition."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from patching.circuit_run import CircuitRunner
from patching.nodes.edges import EdgeSet
from patching.setting import Setting

Runs = tuple[Float[Tensor, "b edges"], Float[Tensor, " b"], Float[Tensor, " b"]]


@torch.no_grad()
def edges(setting: Setting) -> Runs:
    """Every edge's effect, one run for each, and the metric of the clean and the corrupted run.

    Noising leaves one edge out of all, denoising puts one edge into none.
    """
    runner = CircuitRunner(setting.model, setting.batch, nodes="neurons")
    layout, sign = runner.layout, setting.sign()
    whole = EdgeSet.all(layout)
    start = whole if setting.direction == "noising" else EdgeSet.none(layout)

    def metric(kept: EdgeSet) -> Tensor:
        return setting.metric(runner.logits(kept), setting.batch.pairs)

    base = metric(start)
    columns = []
    for number in range(layout.n_edges):
        kept = start.kept.copy()
        kept[number] ^= True
        columns.append(sign * (base - metric(EdgeSet(layout, kept))))
    return torch.stack(columns, dim=1), metric(whole), metric(EdgeSet.none(layout))
