"""Activation patching: the exact effect, the definition that every estimate stands beside.

Noising: ``E(s) = m(clean) - m(clean, s := corrupted)``. Denoising:
``E(s) = m(corrupted, s := clean) - m(corrupted)``. For an edge, only what the receiver's port reads
from the sender is replaced, by the sender's output in the other run (Wang et al. 2022, Conmy et
al. 2023). Nothing here is approximate: patches are stacked as rows of one forward pass, and each
goes on from the place it changes (:mod:`patching.partial_forward`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patching.blocks import Block
from patching.forward import head_outputs
from patching.nodes.deltas import deltas as all_deltas
from patching.nodes.layout import layout_of
from patching.norms import precise
from patching.ops import Point
from patching.partial_forward import Resumption, first_difference
from patching.runs import record
from patching.setting import Setting
from patching.sitesets import Group, SiteSet, unit_axis
from patching.softmax_response import label_masks

EDGE_KINDS = ("input", "z", "attn_raw", "mlp_out")
"""Kinds of points of the other run that exact edges need."""

SUMMANDS = ("expert_out", "shared_out")
"""Kinds of points that add up to what a mixture of experts writes."""

ROW_TOKENS = 8192
"""About how many tokens ride in one forward pass."""


class ExactSweep:
    """The exact effect of many sites or edges on one batch.

    Sites are replaced by their values in the other run or, where ``standing`` is given, by what
    stands in for whole points under an ablation.
    """

    def __init__(
        self,
        setting: Setting,
        kinds: tuple[str, ...],
        standing: Mapping[Point, Tensor] | None = None,
    ) -> None:
        s = setting
        first = first_difference(s.batch) if standing is None else 0
        self.setting = setting
        parts = {"router", *SUMMANDS} & {*kinds}
        also = (*parts, "mlp_raw") if parts else ()
        self.kept = Resumption.of(s.model, s.batch, s.receiving, s.metric, first, also)
        self.base = s.metric(self.kept.logits, s.batch.pairs)
        if standing is None:
            self.other_logits, self.other = record(s.model, s.batch, s.giving, kinds)
        else:
            self.other_logits, self.other = self.kept.logits, self._standing(standing)

    def _standing(self, values: Mapping[Point, Tensor]) -> dict[Point, Tensor]:
        whole = {point: self.kept.values[point] for point in values}
        return {point: v.to(whole[point]).expand_as(whole[point]) for point, v in values.items()}

    @property
    def rows(self) -> int:
        """How many rows ride in one forward pass."""
        width = self.setting.batch.clean.shape[1] - self.kept.first
        return max(1, ROW_TOKENS // (len(self.setting.batch) * width))

    def effect(self, patched: Float[Tensor, "r b"]) -> Float[Tensor, "r b"]:
        """``E`` from the metric of the patched runs."""
        return self.setting.sign() * (self.base - patched)

    def sites(self, sites: SiteSet) -> Iterator[Float[Tensor, "b names"]]:
        """Group by group, the effect of every site at every position."""
        masks = tuple(label_masks(sites.labels, self.setting, self.kept.first))
        for group, meant in sites.parts():
            patched: dict[tuple[int, int], Tensor] = {}
            for label in np.flatnonzero(meant.any(0)).tolist():
                units = np.flatnonzero(meant[:, label]).tolist()
                rows = self._label(group, masks[label], units)
                patched |= {(u, label): row for u, row in zip(units, rows, strict=True)}
            yield self.effect(torch.stack([patched[key] for key in sorted(patched)])).T

    def _label(self, group: Group, at: Tensor, units: Sequence[int]) -> Float[Tensor, "u b"]:
        """The metric with each of some units patched at the columns ``at [b, s']``."""
        if not bool(at.any()):
            return self.base.expand(len(units), -1)
        kind, layer = group.point
        given = self._given(kind, layer)
        base = self.kept.tail(kind, layer)
        if kind == "pattern":
            patched = torch.where(at[:, None, :, None], given, base)
            return self._heads(layer, self._mix(layer, patched), 1, units)
        patched = torch.where(at.view(*at.shape, *[1] * (base.ndim - 2)), given, base)
        if kind in ("q", "k", "v"):
            z = self._attend(layer, {kind: patched})
            groups = self.setting.model.anatomy.n_heads // len(group.sites)
            return self._heads(layer, z, groups, units)
        if kind == "z":
            return self._heads(layer, patched, 1, units)
        if kind in SUMMANDS:
            return self._summands(layer, precise(patched) - precise(base), units)
        if unit_axis(kind) is None:
            return self.kept.go_on(kind, layer, patched[None])
        return self._units(kind, layer, base, patched, 1, units)

    def _given(self, kind: str, layer: int) -> Tensor:
        value, first = self.other[kind, layer], self.kept.first
        return value[:, :, first:] if kind == "pattern" else value[:, first:]

    def _heads(
        self, layer: int, z: Tensor, groups: int, units: Sequence[int]
    ) -> Float[Tensor, "u b"]:
        """The metric with a head's output (or a group of heads') taken from ``z``, one by one."""
        return self._units("z", layer, self.kept.tail("z", layer), z, groups, units)

    def _units(
        self,
        kind: str,
        layer: int,
        base: Tensor,
        patched: Tensor,
        groups: int,
        units: Sequence[int],
    ) -> Float[Tensor, "u b"]:
        effects = []
        for start in range(0, len(units), self.rows):
            some = units[start : start + self.rows]
            rows = base.expand(len(some), *base.shape).clone()
            for row, unit in enumerate(some):
                which = slice(unit * groups, (unit + 1) * groups)
                rows[row, :, :, which] = patched[:, :, which]
            effects.append(self.kept.go_on(kind, layer, rows))
        return torch.cat(effects)

    def _summands(
        self, layer: int, change: Float[Tensor, "b s *u d"], units: Sequence[int]
    ) -> Float[Tensor, "u b"]:
        """The metric with each expert's write changed, in the sum that all of them make.

        The sum is all that the rest of the run reads, so that no row has to hold every expert.
        """
        raw = self.kept.tail("mlp_raw", layer)
        each = change.movedim(2, 0)[list(units)] if change.ndim == 4 else change[None]
        rows = [(raw + part).to(raw.dtype) for part in each.split(self.rows)]
        return torch.cat([self.kept.go_on("mlp_raw", layer, part) for part in rows])

    def _attend(self, layer: int, changed: dict[str, Tensor]) -> Tensor:
        """Outputs of all heads when queries, keys or values are changed for all of them."""
        block = self.setting.model.blocks[layer]
        q, k, v = (changed.get(kind, self.kept.tail(kind, layer)) for kind in ("q", "k", "v"))
        past = self.kept.past(layer, 1)
        return head_outputs(block, q, block.share(k), block.share(v), self.kept.frame, past=past)

    def _mix(self, layer: int, pattern: Tensor) -> Tensor:
        return torch.einsum("bhqk,bkhe->bqhe", pattern, self.kept.values["v_read", layer])

    def edges(
        self,
        at: Bool[Tensor, "b s"] | None = None,
        tell: Callable[[int], None] = lambda _: None,
    ) -> Float[Tensor, "b edges"]:
        """The effect of every edge, in the order of :func:`patching.nodes.edges.edges`.

        With ``at``, only where the receiver reads these columns (from ``first`` on). ``tell`` is
        given how many layers of receivers are done.
        """
        deltas = self._deltas()
        if at is not None:
            deltas = deltas * at[:, :, None]
        parts: list[Tensor] = []
        layout = layout_of(self.setting.model.anatomy)
        for layer, block in enumerate(self.setting.model.blocks):
            parts += self._edges_into_heads(block, deltas[: layout.group("head", layer).start])
            parts.append(self._edges_into("mlp_in", layer, deltas[: layout.before_mlp(layer)]))
            tell(layer + 1)
        parts.append(self._edges_into("final_in", layout.anatomy.n_layers, deltas))
        return self.effect(torch.cat(parts)).T

    def _deltas(self) -> Float[Tensor, "u b s d"]:
        """Receiving minus giving writes of every sender, from position ``first`` on."""
        s = self.setting
        runs = s.ordered(self.kept.values, self.other)
        layout = layout_of(s.model.anatomy)
        return s.sign() * all_deltas(s.model, layout, *runs)[:, :, self.kept.first :]

    def _edges_into(self, kind: str, layer: int, deltas: Tensor) -> Float[Tensor, "u b"]:
        """The metric with one sender at a time replaced in the input of an MLP or the logits."""
        if kind == "final_in":
            base, deltas = self.kept.values[kind, layer], deltas[:, :, -1]
        else:
            base = self.kept.tail(kind, layer)
        chunks = deltas.split(self.rows)
        return torch.cat(
            [self.kept.go_on(kind, layer, (base - chunk).to(base.dtype)) for chunk in chunks]
        )

    def _edges_into_heads(self, block: Block, deltas: Tensor) -> list[Tensor]:
        """The metric per port, head and sender, flattened in that order."""
        effects: list[list[Tensor]] = []
        for chunk in deltas.split(max(1, self.rows // 4)):
            effects.append([self._port(block, chunk, port) for port in ("q", "k", "v")])
        return [torch.cat(port, dim=1).flatten(0, 1) for port in zip(*effects, strict=True)]

    def _port(self, block: Block, deltas: Tensor, port: str) -> Float[Tensor, "h u b"]:
        """The metric with a head's port reading each sender from the other run."""
        layer, count = block.layer, deltas.shape[0]
        stream = self.kept.tail("resid_pre", layer)
        n = block.ln1((stream - deltas).to(stream.dtype).flatten(0, 1))
        q, k, v = (
            self.kept.tail(kind, layer).repeat(count, 1, 1, 1) for kind in ("q", "k_read", "v_read")
        )
        if port == "q":
            q = block.queries(n)
        elif port == "k":
            k = block.share(block.keys(n))
        else:
            v = block.share(block.values(n))
        frame, past = self.kept.frame.repeat(count), self.kept.past(layer, count)
        z = head_outputs(block, q, k, v, frame, past=past).unflatten(0, (count, -1))
        return self._each_head(layer, z)

    def _each_head(self, layer: int, z: Float[Tensor, "u b s h e"]) -> Float[Tensor, "h u b"]:
        """The metric with one head's output at a time taken from ``z``."""
        rows = []
        for unit in range(z.shape[3]):
            stacked = self.kept.tail("z", layer).expand_as(z).clone()
            stacked[:, :, :, unit] = z[:, :, :, unit]
            rows.append(self.kept.go_on("z", layer, stacked))
        return torch.stack(rows)
