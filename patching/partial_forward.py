"""Going on from inside a run: many patches in one forward pass, nothing before them recomputed.

A :class:`Resumption` keeps one run of a batch. Given replacements for some point of some layer,
stacked as rows, it computes the metric from there on: later layers only, and later positions only,
since under the causal mask nothing before the first changed token can change. In the last layer
only the last position is computed. All of this is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from patching.forward import (
    Record,
    Write,
    finish_block,
    run_block,
    run_block_end,
    write_attention,
    write_mlp,
)
from patching.frame import Frame
from patching.in_use import undisturbed
from patching.metrics import CheckedMetric
from patching.model import Model
from patching.ops import PLAIN, Point
from patching.runs import Batch, name_overflow

KEPT = (
    *("input", "resid_pre", "q", "k", "v", "k_read", "v_read", "q_rot", "k_rot", "pattern", "z"),
    *("attn_raw", "attn_out", "resid_mid", "mlp_in", "mlp_post", "mlp_out", "resid_post"),
    "final_in",
)
"""Kinds of points that a resumption keeps of its run."""


@dataclass(frozen=True)
class Resumption:
    """One run of a batch, ready to be continued from any point after position ``first``.

    Rows are stacked before the batch: ``[r, b, s', ...]`` with ``s'`` positions from ``first`` on.
    """

    model: Model
    batch: Batch
    metric: CheckedMetric
    values: dict[Point, Tensor]
    logits: Float[Tensor, "b v"]
    frame: Frame
    first: int

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        model: Model,
        batch: Batch,
        run: str,
        metric: CheckedMetric,
        first: int,
        also: Iterable[str] = (),
    ) -> Resumption:
        """Run one side of a batch and keep what going on from ``first`` needs.

        ``also`` are more kinds of points to keep.
        """
        tap = Record((*KEPT, *also))
        frame = model.frame(batch.mask)
        x = tap("input", 0, model.embed(batch.tokens(run), frame))
        logits = model.run_from(0, x, frame, tap)
        name_overflow(logits, tap.values)
        return cls(model, batch, metric, tap.values, logits, frame.rows(first), first)

    def tail(self, kind: str, layer: int) -> Tensor:
        """A kept value from position ``first`` on."""
        value = self.values[kind, layer]
        return value[:, :, self.first :] if kind == "pattern" else value[:, self.first :]

    @undisturbed
    def go_on(self, kind: str, layer: int, rows: Float[Tensor, "r b *s"]) -> Float[Tensor, "r b"]:
        """The metric of every row when its values stand at a point of this run.

        ``kind`` is one of ``input resid_pre z attn_out resid_mid mlp_in mlp_post router mlp_raw
        mlp_out resid_post final_in``.
        """
        count = rows.shape[0]
        x = rows.flatten(0, 1)
        steps: dict[str, Callable[[int, Tensor, int], Tensor]] = {
            "z": self._from_z,
            "attn_out": self._from_attn_out,
            "resid_mid": self._from_mid,
            "mlp_in": self._from_mlp_in,
            "mlp_post": self._from_mlp_post,
            "router": self._from_router,
            "mlp_raw": self._from_mlp_raw,
            "mlp_out": self._from_mlp_out,
        }
        if kind == "final_in":
            return self._measure(x, count)
        if kind in ("input", "resid_pre"):
            return self._from_layer(layer, x, count)
        x = x if kind == "resid_post" else steps[kind](layer, x, count)
        return self._from_layer(layer + 1, x, count)

    def _from_layer(self, layer: int, x: Tensor, count: int) -> Float[Tensor, "r b"]:
        blocks = self.model.blocks[layer:]
        if not blocks:
            return self._measure(x[:, -1], count)
        frame = self.frame.repeat(count)
        for block in blocks[:-1]:
            x = run_block(block, x, frame, past=self.past(block.layer, count))
        last, past = blocks[-1], self.past(blocks[-1].layer, count)
        return self._measure(run_block_end(last, x, frame, past=past)[:, -1], count)

    def past(self, layer: int, count: int) -> dict[Point, Tensor] | None:
        """Keys and values of the positions before ``first``, repeated for every row."""
        if self.first == 0:
            return None
        return {
            (kind, layer): self.values[kind, layer][:, : self.first].repeat(count, 1, 1, 1)
            for kind in ("k_rot", "v_read")
        }

    def _tail(self, kind: str, layer: int, like: Tensor, count: int) -> Tensor:
        """A kept value repeated for every row, cut to as many last positions as ``like`` has."""
        value = self.values[kind, layer][:, -like.shape[1] :]
        return value.repeat(count, *([1] * (value.ndim - 1)))

    def _shorten(self, layer: int, x: Tensor) -> Tensor:
        """After the last layer's attention only the last position matters."""
        return x[:, -1:] if layer == self.model.anatomy.n_layers - 1 else x

    def _from_z(self, layer: int, z: Tensor, count: int) -> Tensor:
        block, z = self.model.blocks[layer], self._shorten(layer, z)
        return self._from_attn_out(layer, write_attention(block, z), count)

    def _from_attn_out(self, layer: int, x: Tensor, count: int) -> Tensor:
        x = self._shorten(layer, x)
        before = self._tail("resid_pre", layer, x, count)
        return finish_block(self.model.blocks[layer], before, x)

    def _from_mid(self, layer: int, x: Tensor, _count: int) -> Tensor:
        x = self._shorten(layer, x)
        return x + write_mlp(self.model.blocks[layer], x)

    def _from_mlp_in(self, layer: int, x: Tensor, count: int) -> Tensor:
        x = self._shorten(layer, x)
        return self._from_mlp_out(layer, write_mlp(self.model.blocks[layer], x), count)

    def _from_mlp_post(self, layer: int, x: Tensor, count: int) -> Tensor:
        block, x = self.model.blocks[layer], self._shorten(layer, x)
        return self._from_mlp_raw(layer, block.neurons_output(x), count)

    def _from_router(self, layer: int, weights: Tensor, count: int) -> Tensor:
        weights = self._shorten(layer, weights)
        read = self._tail("mlp_in", layer, weights, count)
        put = Write({("router", layer): lambda _: weights})
        return self._from_mlp_out(layer, write_mlp(self.model.blocks[layer], read, put), count)

    def _from_mlp_raw(self, layer: int, x: Tensor, count: int) -> Tensor:
        block, x = self.model.blocks[layer], self._shorten(layer, x)
        out = x if block.ln2_post is None else block.ln2_post(x)
        return self._from_mlp_out(layer, out, count)

    def _from_mlp_out(self, layer: int, x: Tensor, count: int) -> Tensor:
        x = self._shorten(layer, x)
        if not self.model.anatomy.parallel:
            return self._tail("resid_mid", layer, x, count) + x
        # In the order of the whole run, so that both round in the same way.
        out = x + self._tail("attn_out", layer, x, count)
        return out + self._tail("resid_pre", layer, x, count)

    def _measure(self, x: Float[Tensor, "rb d"], count: int) -> Float[Tensor, "r b"]:
        logits = self.model.unembed(x, ops=PLAIN).unflatten(0, (count, -1))
        return torch.stack([self.metric(row, self.batch.pairs) for row in logits])


def first_difference(batch: Batch) -> int:
    """The first column in which any prompt differs between its runs; the last if none does."""
    differs = (batch.clean != batch.corrupted).any(0)
    return int(differs.long().argmax()) if bool(differs.any()) else batch.clean.shape[1] - 1
