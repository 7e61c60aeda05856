"""What an All-for-One subgraph is made of: which heads transfer, and what flows between parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patching.ablation.means import MeanActivations
from patching.allforone.stages import Cuts, Stages, correct
from patching.forward import Record, Tap, no_tap
from patching.metrics import Metric, check_metric, log_prob, metric_name
from patching.model import Model
from patching.nodes.heads import head_writes
from patching.ops import Point
from patching.progress import Count
from patching.runs import Batch
from patching.scores import Scores
from patching.sites import LOGITS, Edge, Site, head, mlp, reaches
from patching.sweep import Sweep, added, sweep
from tasks.pairs import PromptPairs

T = TypeVar("T")


@dataclass(frozen=True)
class Subgraph:
    """A chosen subgraph on some prompts: its waits and transfers, and the heads that transfer."""

    model: Model
    pairs: PromptPairs
    means: MeanActivations
    bos: bool
    wait: int
    transfer: int
    heads: tuple[Site, ...]
    options: Sweep

    @classmethod
    def of(
        cls,
        model: Model,
        pairs: PromptPairs,
        means: MeanActivations,
        bos: bool,
        wait: int,
        transfer: int,
        batch_size: int | Sweep = 64,
    ) -> Subgraph:
        """The subgraph in which all heads of the transfer blocks peek."""
        layers = range(wait + 1, wait + 1 + transfer)
        heads = tuple(head(layer, h) for layer in layers for h in range(model.anatomy.n_heads))
        return cls(model, pairs, means, bos, wait, transfer, heads, Sweep.of(batch_size))

    def keeping(self, heads: Iterable[Site]) -> Subgraph:
        """The same subgraph with only some heads peeking."""
        return replace(self, heads=tuple(heads))

    def sweep(self, work: Callable[[Stages], T]) -> Iterator[T]:
        """What ``work`` makes of the stages of every batch."""

        def staged(batch: Batch) -> T:
            return work(Stages.of(self.model, batch, self.bos))

        return sweep(self.model, self.pairs, staged, self.options.afresh())

    @property
    def layers(self) -> range:
        """The transfer blocks."""
        return range(self.wait + 1, self.wait + 1 + self.transfer)

    @property
    def columns(self) -> range:
        """The columns that a peek opens: all but the last, and the first where that is BOS."""
        return range(int(self.bos), self.pairs.clean.shape[1] - 1)

    def cuts(self, columns: Mapping[Site, Iterable[int]] | None = None) -> Cuts:
        """What the last token may not see: nothing, by a head that is not kept.

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


@torch.no_grad()
def answers(subgraph: Subgraph) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Whether each prompt is answered correctly, and the log-probability of its answer."""
    cuts = subgraph.cuts()

    def work(stages: Stages) -> tuple[np.ndarray, np.ndarray]:
        logits = _run(subgraph, stages, cuts)
        certain = log_prob(logits.float(), stages.batch.pairs)
        return correct(logits, stages.batch).cpu().numpy(), certain.double().cpu().numpy()

    hits, certain = zip(*subgraph.sweep(work), strict=True)
    return np.concatenate(hits), np.concatenate(certain)


def prune_heads(subgraph: Subgraph) -> list[tuple[Site, Bool[np.ndarray, " n"]]]:
    """Heads in the order in which they can be done without, and who is right without them.

    Each time, the head goes without which most prompts are still answered correctly; among equals
    the one that costs the least log-probability. A head that went sees itself and BOS only.
    """
    kept, found = list(subgraph.heads), []
    count = Count(subgraph.options.progress, len(kept), "pruning heads")
    while kept:
        tried = []
        for site in kept:
            hits, certain = answers(subgraph.keeping(h for h in kept if h != site))
            tried.append((int(hits.sum()), float(certain.mean()), site, hits))
        _, _, site, hits = max(tried, key=lambda trial: trial[:2])
        kept.remove(site)
        found.append((site, hits))
        count()
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
    subgraph: Subgraph, label: Callable[[int], int | str], metric: str | Metric = "logit_diff"
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
    plain, mean_writes = subgraph.cuts(), _mean_writes(subgraph)
    nothing = subgraph.cuts(dict.fromkeys(subgraph.heads, subgraph.columns))

    def work(stages: Stages) -> tuple[list[str], np.ndarray, np.ndarray]:
        def measured(cuts: Cuts, tap: Tap = no_tap) -> Float[Tensor, " b"]:
            return checked(_run(subgraph, stages, cuts, tap), stages.batch.pairs)

        tap, rows = Record(("z", "attn_raw", "mlp_out")), {}
        base = measured(plain, tap)
        for name, cuts, change in _edges(subgraph, stages, tap.values, mean_writes, label):
            rows[name] = base - measured(cuts, Add(change) if change else no_tap)
        drops = torch.stack([*rows.values()]) if rows else base.new_zeros(0, len(base))
        ends = float(base.sum()), float(measured(nothing).sum())
        return [*rows], drops.double().cpu().numpy(), np.array(ends)

    # A journal holds no names.
    unrecorded = replace(subgraph, options=subgraph.options.afresh(journal=None))
    (names, *_), drops, ends = zip(*unrecorded.sweep(work), strict=True)
    values, (full, empty) = np.concatenate(drops, axis=1), sum(ends, np.zeros(2))
    return Scores(
        names=tuple(names),
        totals=values.sum(1),
        squares=np.square(values).sum(1),
        count=len(subgraph.pairs),
        level="edge",
        method="af1",
        direction="noising",
        metric=metric_name(metric),
        anatomy=subgraph.model.anatomy,
        clean=float(full),
        corrupted=float(empty),
        task=subgraph.pairs.task,
        model_hash=subgraph.model.hash,
        options={"wait": subgraph.wait, "transfer": subgraph.transfer},
    )


def _run(subgraph: Subgraph, stages: Stages, cuts: Cuts, tap: Tap = no_tap) -> Tensor:
    return stages.run(subgraph.means, subgraph.wait, subgraph.transfer, cuts, tap)


def _mean_writes(subgraph: Subgraph) -> dict[int, Float[Tensor, " d"]]:
    """What every later MLP writes at the last token, averaged over the prompts."""
    cuts, layers = subgraph.cuts(), range(subgraph.wait + 1, subgraph.model.anatomy.n_layers)

    def work(stages: Stages) -> tuple[np.ndarray, ...]:
        tap = Record(("mlp_out",))
        _run(subgraph, stages, cuts, tap)
        written = (tap.values["mlp_out", layer][:, -1] for layer in layers)
        return tuple(last.double().sum(0).cpu().numpy() for last in written)

    if not layers:
        return {}
    means = (torch.tensor(total / len(subgraph.pairs)) for total in added(subgraph.sweep(work)))
    return dict(zip(layers, means, strict=True))


def _edges(
    subgraph: Subgraph,
    stages: Stages,
    values: Mapping[Point, Tensor],
    mean_writes: Mapping[int, Tensor],
    label: Callable[[int], int | str],
) -> Iterator[tuple[str, Cuts, dict[Point, Tensor]]]:
    """Every edge of the subgraph: its name, and the cuts or the change that ablate it."""
    anatomy, plain = subgraph.model.anatomy, subgraph.cuts()
    end = label(subgraph.pairs.clean.shape[1] - 1)
    for site in subgraph.heads:
        for column in subgraph.columns:
            edge = Edge(Site("input", position=label(column)), site.at(end), "v")
            yield edge.name, subgraph.cuts({site: [column]}), {}
    later = range(subgraph.wait + 1, anatomy.n_layers)
    changes = _head_changes(subgraph, stages, values)
    for layer in later:
        written = values["mlp_out", layer][:, -1]
        changes[mlp(layer)] = mean_writes[layer].to(written) - written
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
    subgraph: Subgraph, stages: Stages, values: Mapping[Point, Tensor]
) -> dict[Site, Float[Tensor, "b d"]]:
    """What every kept head would write less at the last token if it saw itself and BOS only."""
    found: dict[Site, Tensor] = {}
    for layer in subgraph.layers:
        here = [site for site in subgraph.heads if site.layer == layer]
        tap = Record(("z",))
        _run(subgraph, stages, subgraph.cuts(dict.fromkeys(here, subgraph.columns)), tap)
        block, raw = subgraph.model.blocks[layer], values["attn_raw", layer][:, -1:]
        off, on = tap.values["z", layer][:, -1:], values["z", layer][:, -1:]
        change = head_writes(block, off, raw) - head_writes(block, on, raw)
        found |= {site: change[:, site.unit, 0] for site in here}
    return found


@torch.no_grad()
def metric_values(subgraph: Subgraph, metric: str | Metric) -> Float[np.ndarray, " n"]:
    """The metric of every prompt in a subgraph."""
    checked, cuts = check_metric(metric), subgraph.cuts()

    def work(stages: Stages) -> Float[np.ndarray, " b"]:
        values = checked(_run(subgraph, stages, cuts), stages.batch.pairs)
        return values.double().cpu().numpy()

    return np.concatenate([*subgraph.sweep(work)])
