"""The QK fix: a query or key patch answered exactly by the softmax, linearly from there on.

The softmax saturates, so its derivative misjudges a patched query or key badly. AtP* (Kramar et
al. 2024) recomputes the attention pattern with the patched query or key and multiplies the change
of the pattern by the metric's gradient there. The rest of the model stays linearised.

What a single query does to the metric is often too little to show in a slope: it lies in the bend.
The gradient half way to the answered pattern (:func:`half_way`) has it to second order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patching.forward import Record, Write, head_outputs
from patching.linearised import Linearisation, Pass
from patching.norms import precise
from patching.ops import PLAIN, Point
from patching.runs import Gradients, check_finite
from patching.setting import Setting
from patching.sitesets import Group, SiteSet, label_columns

ANSWERED = ("q", "k")
"""Kinds of points that the softmax answers."""

KINDS = ("q", "k", "v", "pattern", "resid_pre")
"""Kinds of points of both runs that the answer and the gradient half way to it need."""

TURNS = 2
"""In how many turns the heads of a layer are moved half way: every other head each time."""

Values = Mapping[Point, Tensor]


class SoftmaxResponse:
    """Scores of query and key sites whose pattern is recomputed under the patch."""

    def __init__(self, setting: Setting, linearised: Linearisation, sites: SiteSet) -> None:
        self.setting = setting
        self.here, self.there = setting.ordered(linearised.clean, linearised.corrupted)
        self.masks = tuple(label_masks(sites.labels, setting))

    @torch.no_grad()
    def __call__(self, each: Pass, group: Group) -> Float[Tensor, "b names"]:
        """Scores of one group: unit by unit, position by position."""
        gradient = each.gradients.grads["pattern", group.point[1]]
        columns = []
        for mask in self.masks:
            patched = answer(self.setting, self.here, self.there, group.point, mask)
            change = precise(self.here["pattern", group.point[1]]) - precise(patched)
            per_head = self.setting.sign() * (change * gradient).sum((-1, -2))
            columns.append(per_head.unflatten(1, (len(group.sites), -1)).sum(-1))
        return torch.stack(columns, dim=-1).flatten(1)


@torch.no_grad()
def answer(
    setting: Setting, here: Values, there: Values, point: Point, mask: Bool[Tensor, "b s"]
) -> Float[Tensor, "b h q k"]:
    """The pattern of all heads with the queries or keys at ``mask`` from the other run."""
    kind, layer = point
    block = setting.model.blocks[layer]
    parts = {name: here[name, layer] for name in ("q", "k", "v")}
    parts[kind] = torch.where(mask[:, :, None, None], there[point], parts[kind])
    tap = Record(("pattern",))
    frame = setting.model.frame(setting.batch.mask)
    q, k, v = parts["q"], block.share(parts["k"]), block.share(parts["v"])
    head_outputs(block, q, k, v, frame, tap)
    return tap.values["pattern", layer]


def path(
    setting: Setting, clean: Values, corrupted: Values, point: Point
) -> tuple[Point, tuple[Tensor, Tensor]]:
    """Where the answer shows, and its two ends: the pattern without and with the whole patch."""
    here, there = setting.ordered(clean, corrupted)
    everywhere = torch.ones_like(setting.batch.mask)
    at = ("pattern", point[1])
    return at, (here[at], answer(setting, here, there, point, everywhere))


def half_way(setting: Setting, clean: Values, corrupted: Values, point: Point) -> Pass:
    """The metric's gradient half way to the answered pattern, for one layer's queries or keys.

    Heads that move together bend one another's effects, so they take turns: while every other head
    is half way, the rest stays where it was. One forward and backward pass from the layer on for
    each turn.
    """
    s, (kind, layer) = setting, point
    here, _ = s.ordered(clean, corrupted)
    at, (begin, end) = path(s, clean, corrupted, point)
    heads = s.model.anatomy.n_heads
    shared = heads // here[point].shape[2]
    turns = torch.arange(heads, device=begin.device) // shared % TURNS
    total = torch.zeros_like(begin)
    for turn in range(TURNS):
        moving = (turns == turn)[:, None, None]
        value = torch.where(moving, torch.lerp(begin, end, 0.5), begin)
        gradients = gradient_from(s, here["resid_pre", layer], (at, value))
        total = torch.where(moving, gradients.grads[at], total)
    return Pass(1.0, replace(gradients, grads={at: total}), PLAIN, frozenset([(kind, layer)]))


def gradient_from(
    s: Setting, stream: Float[Tensor, "b s d"], put: tuple[Point, Tensor]
) -> Gradients:
    """The metric's gradient at one point that is given a value, in the run that goes on from there.

    ``stream`` is what the point's layer reads. One forward and backward pass from that layer on.

    Raises:
        MethodError: the metric or the gradient is not a finite number.
    """
    (at, value), frame = put, s.model.frame(s.batch.mask)
    with torch.enable_grad():
        given = value.detach().requires_grad_()
        if at == ("input", 0):
            logits = s.model.run_from(0, given, frame)
        else:
            logits = s.model.run_from(at[1], stream, frame, Write({at: lambda _: given}))
        metric = s.metric(logits, s.batch.pairs)
        (gradient,) = torch.autograd.grad(metric.sum(), given)
    check_finite({at: gradient}, "gradient")
    return Gradients({}, {at: gradient}, metric.detach())


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
