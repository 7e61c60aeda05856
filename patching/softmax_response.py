"""The QK fix: a query or key patch answered exactly by the softmax, linearly from there on.

The softmax saturates, so its derivative misjudges a patched query or key badly. AtP* (Kramar et
al. 2024) recomputes the attention pattern with the patched query or key and multiplies the change
of the pattern by the metric's gradient there. The rest of the model stays linearised.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patching.forward import Record, head_outputs
from patching.linearise import Linearised, Pass, Setting
from patching.sitesets import Group, SiteSet, label_columns

KINDS = ("q", "k", "v", "pattern")
"""Kinds of points of both runs that the response needs."""


class SoftmaxResponse:
    """Scores of query and key sites whose pattern is recomputed under the patch."""

    def __init__(self, setting: Setting, linearised: Linearised, sites: SiteSet) -> None:
        runs = linearised.clean, linearised.corrupted
        self.here, self.there = runs if setting.sign() > 0 else runs[::-1]
        self.setting = setting
        self.masks = tuple(label_masks(sites.labels, setting))

    @torch.no_grad()
    def __call__(self, each: Pass, group: Group) -> Float[Tensor, "b names"]:
        """Scores of one group: unit by unit, position by position."""
        gradient = each.slopes.grads["pattern", group.point[1]]
        columns = []
        for mask in self.masks:
            change = self.here["pattern", group.point[1]] - self._pattern(group, mask)
            per_head = self.setting.sign() * (change * gradient).sum((-1, -2))
            columns.append(per_head.unflatten(1, (len(group.sites), -1)).sum(-1))
        return torch.stack(columns, dim=-1).flatten(1)

    def _pattern(self, group: Group, mask: Bool[Tensor, "b s"]) -> Float[Tensor, "b h q k"]:
        """The pattern of all heads with the queries or keys at ``mask`` from the other run."""
        kind, layer = group.point
        block = self.setting.model.blocks[layer]
        parts = {name: self.here[name, layer] for name in ("q", "k", "v")}
        parts[kind] = torch.where(mask[:, :, None, None], self.there[kind, layer], parts[kind])
        tap = Record(("pattern",))
        frame = self.setting.model.frame(self.setting.batch.mask)
        q, k, v = parts["q"], block.share(parts["k"]), block.share(parts["v"])
        head_outputs(block, q, k, v, frame, tap)
        return tap.values["pattern", layer]


def label_masks(
    labels: tuple[int | str | None, ...], setting: Setting, first: int = 0
) -> Iterator[Bool[Tensor, "b s"]]:
    """For every label, which columns from ``first`` on it stands for, per prompt."""
    batch, device = setting.batch, setting.model.device
    columns = torch.arange(first, batch.clean.shape[1], device=device)
    if labels == (None,):
        yield torch.ones(len(batch), len(columns), dtype=torch.bool, device=device)
        return
    for at in label_columns(labels, batch).T:
        yield columns[None] == at[:, None]
