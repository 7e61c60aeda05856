"""The slow, plain definitions that the fast code is held against.

Everything here runs the whole model once for every single patch, with a tap that replaces one
thing, and knows nothing of batching, resuming or closed forms.
"""

from __future__ import annotations

import torch
from torch import Tensor

from patching import writes
from patching.forward import Record, head_outputs, rotate
from patching.metrics import check_metric
from patching.model import Model
from patching.runs import Batch
from patching.sites import Edge, Site
from patching.sitesets import point_of


def run_metric(model: Model, batch: Batch, run: str, tap=None, metric="logit_diff") -> Tensor:
    """The metric of one run, with a tap if given."""
    with torch.no_grad():
        extra = {} if tap is None else {"tap": tap}
        logits = model.run(batch.tokens(run), batch.mask, **extra)
        return check_metric(metric)(logits, batch.pairs)


def values(model: Model, batch: Batch, run: str) -> dict:
    """Every tapped value of one run."""

    class All(Record):
        def __call__(self, kind, layer, value):
            self.values[kind, layer] = value
            return value

    tap = All(())
    with torch.no_grad():
        model.run(batch.tokens(run), batch.mask, tap)
    return tap.values


def exact_site(
    model: Model, batch: Batch, site: Site, direction: str, columns: Tensor | None = None
) -> Tensor:
    """E(s) for one site, at all columns or at one column per prompt."""
    receiving, giving = ("clean", "corrupted") if direction == "noising" else ("corrupted", "clean")
    point = point_of(site)
    given = values(model, batch, giving)[point]

    def tap(kind: str, layer: int, value: Tensor) -> Tensor:
        if (kind, layer) != point:
            return value
        value = value.clone()
        unit = slice(None) if site.unit < 0 else slice(site.unit, site.unit + 1)
        for row in range(len(value)):
            at = slice(None) if columns is None else slice(int(columns[row]), int(columns[row]) + 1)
            if kind == "pattern":
                value[row, unit, at] = given[row, unit, at]
            elif site.unit >= 0:
                value[row, at, unit] = given[row, at, unit]
            else:
                value[row, at] = given[row, at]
        return value

    base = run_metric(model, batch, receiving)
    patched = run_metric(model, batch, receiving, tap)
    return base - patched if direction == "noising" else patched - base


def sender_write(model: Model, found: dict, site: Site) -> Tensor:
    """What a sender writes to the residual stream in one run."""
    if site.kind == "input":
        return found["input", 0]
    if site.kind == "mlp":
        return found["mlp_out", site.layer]
    block = model.blocks[site.layer]
    raw = found["attn_raw", site.layer]
    return writes.head_writes(block, found["z", site.layer], raw)[:, site.unit]


def exact_edge(model: Model, batch: Batch, edge: Edge, direction: str) -> Tensor:
    """E(edge): the receiver's port alone reads the sender's output of the other run."""
    receiving, giving = ("clean", "corrupted") if direction == "noising" else ("corrupted", "clean")
    here, there = values(model, batch, receiving), values(model, batch, giving)
    change = sender_write(model, there, edge.sender) - sender_write(model, here, edge.sender)
    layer, unit = edge.receiver.layer, edge.receiver.unit

    def into_head() -> Tensor:
        block = model.blocks[layer]
        n = block.ln1(here["resid_pre", layer] + change)
        parts = {kind: here[kind, layer] for kind in ("q", "k_read", "v_read")}
        if edge.port == "q":
            parts["q"] = block.queries(n)
        elif edge.port == "k":
            parts["k_read"] = block.share(block.keys(n))
        else:
            parts["v_read"] = block.share(block.values(n))
        return head_outputs(block, *parts.values(), model.frame(batch.mask))[:, :, unit]

    def tap(kind: str, at: int, value: Tensor) -> Tensor:
        if edge.receiver.kind == "head" and (kind, at) == ("z", layer):
            value = value.clone()
            value[:, :, unit] = into_head()
        if edge.receiver.kind == "mlp" and (kind, at) == ("mlp_in", layer):
            return value + change
        if edge.receiver.kind == "logits" and kind == "final_in":
            return value + change[:, -1]
        return value

    base = run_metric(model, batch, receiving)
    with torch.no_grad():
        patched = run_metric(model, batch, receiving, tap)
    return base - patched if direction == "noising" else patched - base


__all__ = ["exact_edge", "exact_site", "rotate", "run_metric", "sender_write", "values"]
