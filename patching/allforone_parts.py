"""What an All-for-One subgraph is made of: which heads transfer, and what flows between parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patching import writes
from patching.allforone import Cuts, Stages, correct
from patching.forward import Record, Tap
from patching.means import Means
from patching.metrics import Metric, check_metric, log_prob, metric_name
from patching.model import Model
from patching.ops import Point
from patching.runs import batches
from patching.scores import Scores
from patching.sites import LOGITS, Edge, Site, head, mlp, reaches
from tasks.pairs import PromptPairs

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Subgraph:
    """A chosen subgraph on some prompts: its waits and transfers, and the heads that transfer."""

    model: Model
    pairs: PromptPairs
    means: Means
    bos: bool
    wait: int
    transfer: int
    heads: tuple[Site, ...]
    batch_size: int = 64

    @property
    def layers(self) -> range:
        """The transfer blocks."""
        return range(self.wait + 1, self.wait + 1 + self.transfer)

    def keeping(self, heads: Iterable[Site]) -> Subgraph:
        """The same subgraph with only some heads peeking."""
        return Subgraph(**{**vars(self), "heads": tuple(heads)})

    def stages(self) -> Iterator[Stages]:
        """The prompts batch by batch."""
        for batch in batches(self.model, self.pairs, self.batch_size):
            yield Stages.of(self.model, batch, self.bos)

    def cuts(self, columns: Mapping[Site, Iterable[int]] | None = None) -> Cuts:
        """What the last token may not see: nothing of a head that is not kept is seen.

        ``columns`` are taken from heads besides.
        """
        n_heads, length = self.model.anatomy.n_heads, self.pairs.clean.shape[1]
        found = {}
        for layer in self.layers:
            cut = torch.ones(n_heads, length, dtype=torch.bool, device=self.model.device)
            for site in self.heads:
                if site.layer == layer:
                    cut[site.unit] = False
                    cut[site.unit, list((columns or {}).get(site, ()))] = True
            cut[:, -1] = False
            if self.bos:
                cut[:, 0] = False
            found[layer] = cut
        return found

    @property
    def columns(self) -> range:
        """The columns that a peek opens: all but the last, and the first where that is BOS."""
        return range(int(self.bos), self.pairs.clean.shape[1] - 1)


def all_heads(model: Model, wait: int, transfer: int) -> tuple[Site, ...]:
    """The heads of the transfer blocks."""
    layers = range(wait + 1, wait + 1 + transfer)
    return tuple(head(layer, h) for layer in layers for h in range(model.anatomy.n_heads))


@torch.no_grad()
def answers(point: Subgraph) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Whether each prompt is answered correctly, and the log-probability of its answer."""
    hits, certain, cuts = [], [], point.cuts()
    for stages in point.stages():
        logits = stages.run(point.means, point.wait, point.transfer, cuts)
        hits.append(correct(logits, stages.batch))
        certain.append(log_prob(logits.float(), stages.batch.pairs))
    return torch.cat(hits).cpu().numpy(), torch.cat(certain).double().cpu().numpy()


def prune_heads(
    point: Subgraph, progress: Progress | None = None
) -> list[tuple[Site, Bool[np.ndarray, " n"]]]:
    """Heads in the order in which they can be done without, and who is right without them.

    Each time, the head goes without which most prompts are still answered correctly; among equals
    the one that costs the least log-probability. A head that went sees itself and BOS only.
    """
    kept, found = list(point.heads), []
    total = len(kept)
    while kept:
        tried = []
        for site in kept:
            hits, certain = answers(point.keeping(h for h in kept if h != site))
            tried.append((int(hits.sum()), float(certain.mean()), site, hits))
        _, _, site, hits = max(tried, key=lambda trial: trial[:2])
        kept.remove(site)
        found.append((site, hits))
        if progress:
            progress(len(found), total, "pruning heads")
    return found


@dataclass(frozen=True)
class Add:
    """A tap that adds to the last token's row of some points."""

    changes: Mapping[Point, Float[Tensor, "b d"]]

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """The value with the change in its last row."""
        change = self.changes.get((kind, layer))
        if change is None:
            return value
        if value.ndim == 2:
            return value + change
        value = value.clone()
        value[:, -1] += change
        return value


@torch.no_grad()
def score_parts(
    point: Subgraph, label: Callable[[int], int | str], metric: str | Metric = "logit_diff"
) -> Scores:
    """How much every edge of the subgraph carries: its metric less that with the edge ablated.

    Edges from a token into a kept head: that head does not see the token. Edges from a kept head,
    at the last token: the receiver reads what the head would write if it saw itself and BOS only.
    Edges from the MLPs of later blocks, at the last token: the receiver reads their mean over the
    prompts. Receivers are MLPs and the logits; attention in the computing blocks is not scored.
    ``label`` names columns. ``clean`` is the metric of the subgraph, ``corrupted`` that of the
    same with nothing transferred.
    """
    checked = check_metric(metric)
    names: list[str] = []
    drops: list[Tensor] = []
    full = empty = 0.0
    mean_writes = _mean_writes(point)
    for stages in point.stages():
        tap = Record(("z", "attn_raw", "mlp_out"))
        base = checked(_run(point, stages, point.cuts(), tap), stages.batch.pairs)
        full += float(base.sum())
        nothing = dict.fromkeys(point.heads, point.columns)
        empty += float(checked(_run(point, stages, point.cuts(nothing)), stages.batch.pairs).sum())
        names, rows = [], []
        for name, cuts, change in _edges(point, stages, tap.values, mean_writes, label):
            logits = _run(point, stages, cuts, Add(change) if change else None)
            names.append(name)
            rows.append(base - checked(logits, stages.batch.pairs))
        drops.append(torch.stack(rows) if rows else base.new_zeros(0, len(base)))
    values = torch.cat(drops, dim=1).double().cpu().numpy()
    return Scores(
        names=tuple(names),
        totals=values.sum(1),
        squares=np.square(values).sum(1),
        count=len(point.pairs),
        level="edge",
        method="af1",
        direction="noising",
        metric=metric_name(metric),
        anatomy=point.model.anatomy,
        clean=full,
        corrupted=empty,
        task=point.pairs.task,
        model_hash=point.model.hash,
        options={"wait": point.wait, "transfer": point.transfer},
    )


def _run(point: Subgraph, stages: Stages, cuts: Cuts, tap: Tap | None = None) -> Tensor:
    extra = {} if tap is None else {"tap": tap}
    return stages.run(point.means, point.wait, point.transfer, cuts, **extra)


def _mean_writes(point: Subgraph) -> dict[int, Float[Tensor, " d"]]:
    """What every later MLP writes at the last token, averaged over the prompts."""
    sums: dict[int, Tensor] = {}
    for stages in point.stages():
        tap = Record(("mlp_out",))
        _run(point, stages, point.cuts(), tap)
        for (_, layer), value in tap.values.items():
            total = value[:, -1].double().sum(0)
            sums[layer] = sums[layer] + total if layer in sums else total
    return {layer: total / len(point.pairs) for layer, total in sums.items()}


def _edges(
    point: Subgraph,
    stages: Stages,
    values: Mapping[Point, Tensor],
    mean_writes: Mapping[int, Tensor],
    label: Callable[[int], int | str],
) -> Iterator[tuple[str, Cuts, dict[Point, Tensor]]]:
    """Every edge of the subgraph: its name, and the cuts or the change that ablate it."""
    anatomy, plain = point.model.anatomy, point.cuts()
    end = label(point.pairs.clean.shape[1] - 1)
    for site in point.heads:
        for column in point.columns:
            edge = Edge(Site("input", position=label(column)), site.at(end), "v")
            yield edge.name, point.cuts({site: [column]}), {}
    later = range(point.wait + 1, anatomy.n_layers)
    changes = _head_changes(point, stages, values)
    for layer in later:
        written = values["mlp_out", layer][:, -1]
        changes[mlp(layer)] = mean_writes[layer].to(written.dtype) - written
    receivers = [*(mlp(layer) for layer in later), LOGITS]
    for sender, change in changes.items():
        for receiver in receivers:
            if not reaches(sender, receiver, anatomy):
                continue
            at = receiver if receiver == LOGITS else receiver.at(end)
            where = ("mlp_in", receiver.layer)
            where = ("final_in", anatomy.n_layers) if receiver == LOGITS else where
            yield Edge(sender.at(end), at).name, plain, {where: change}


def _head_changes(
    point: Subgraph, stages: Stages, values: Mapping[Point, Tensor]
) -> dict[Site, Float[Tensor, "b d"]]:
    """What every kept head would write less at the last token if it saw itself and BOS only."""
    found: dict[Site, Tensor] = {}
    for layer in point.layers:
        here = [site for site in point.heads if site.layer == layer]
        tap = Record(("z",))
        _run(point, stages, point.cuts(dict.fromkeys(here, point.columns)), tap)
        block, raw = point.model.blocks[layer], values["attn_raw", layer][:, -1:]
        off, on = tap.values["z", layer][:, -1:], values["z", layer][:, -1:]
        change = writes.head_writes(block, off, raw) - writes.head_writes(block, on, raw)
        found |= {site: change[:, site.unit, 0] for site in here}
    return found


@torch.no_grad()
def metric_values(point: Subgraph, metric: str | Metric) -> Float[np.ndarray, " n"]:
    """The metric of every prompt in a subgraph."""
    checked, cuts = check_metric(metric), point.cuts()
    found = [checked(_run(point, stages, cuts), stages.batch.pairs) for stages in point.stages()]
    return torch.cat(found).double().cpu().numpy()
