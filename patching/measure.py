"""Measuring: one method on batches of prompt pairs, whatever it scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from patching import activation, attention_edges, exact_receivers, softmax_response
from patching.gradient_scores import EDGE_KINDS, edge_scores, site_scores
from patching.linearised import Kinds, Linearise
from patching.methods import get, linearisation
from patching.metrics import CheckedMetric, Metric, check_metric
from patching.model import Model
from patching.progress import Progress
from patching.rules import Rules
from patching.runs import batches
from patching.setting import Setting, check_direction
from patching.sites import Edge, edges
from patching.sitesets import SiteSet, label_columns, labels_of, site_set
from patching.written import read_method
from tasks.errors import MethodError, ModelError, TaskError, unknown
from tasks.pairs import PromptPairs

Labels = tuple[int | str | None, ...]

Told = Callable[[int], None]
Sample = tuple[int, int]
"""How many sites at the most, and the seed that draws them."""

LEVELS = ("node", "edge", "site", "attention_edge")


def _nobody(step: int) -> None:
    """Nobody is told."""


@dataclass(frozen=True)
class Request:
    """What is to be measured, checked against the model and the prompts.

    ``wanted`` are the sites to score, in the order of ``names``; None stands for all edges, at the
    positions that ``labels`` name.
    """

    method: str
    options: Mapping[str, Any]
    level: str
    direction: str
    metric: CheckedMetric
    names: tuple[str, ...]
    wanted: SiteSet | None
    labels: Labels = (None,)

    @classmethod
    def of(
        cls,
        model: Model,
        pairs: PromptPairs,
        method: str,
        level: str,
        direction: str,
        metric: str | Metric,
        sites: str,
        positions: str,
        options: Mapping[str, Any],
        sample: Sample | None = None,
    ) -> Request:
        """Check everything that can be known before the first forward pass.

        With ``sample`` sites are no more than a number, drawn with a seed.

        Raises:
            ModelError, TaskError: the model is not an open one, the pairs are something else.
            MethodError: an unknown method, level, direction, option or metric.
            SiteError: sites or positions that this model or these prompts do not have.
        """
        _check_arguments(model, pairs)
        method, written = read_method(method)
        if twice := sorted(written.keys() & options.keys()):
            raise MethodError(f"{twice[0]} is given behind the method and beside it: leave one out")
        filled = get(method).check({**written, **options})
        if filled.get("exact_receivers") and filled.get("grad_drop"):
            raise MethodError("exact_receivers and grad_drop exclude each other: choose one")
        check_direction(direction)
        if level not in LEVELS:
            raise MethodError(unknown("level", level, LEVELS))
        if level != "site" and sites != "node":
            raise MethodError(f"sites='{sites}' goes with level='site', not with '{level}'")
        checked, labels = check_metric(metric), labels_of(positions, pairs)
        if level == "attention_edge":
            if labels == (None,):
                raise MethodError("crossing edges lie between positions: use token or named ones")
            names = attention_edges.names(model.anatomy, labels)
            return cls(method, filled, level, direction, checked, names, None, labels)
        if level == "edge":
            names = tuple(
                Edge(e.sender.at(label), e.receiver.at(label), e.port).name
                for e in edges(model.anatomy)
                for label in labels
            )
            return cls(method, filled, level, direction, checked, names, None, labels)
        kind = "node" if level == "node" else sites
        wanted = site_set(kind, model.anatomy, pairs, positions)
        for each in kind.split(","):
            check_reached(method, filled, each)
        wanted = wanted if sample is None else wanted.sample(*sample)
        return cls(method, filled, level, direction, checked, wanted.names, wanted, labels)

    def steps(self, model: Model) -> int:
        """In how many steps a batch is told of: those of the exact effect, else one."""
        if self.method != "activation" or self.level == "attention_edge":
            return 1
        if self.wanted is not None:
            return len(self.wanted)
        return model.anatomy.n_layers + 1 if self.labels == (None,) else 1

    def measure(self, tell: Told = _nobody) -> Callable[[Setting], BatchScores]:
        """The function that scores one batch; ``tell`` is given how many of its steps are done."""
        wanted, labels, crosses = self.wanted, self.labels, self.level == "attention_edge"
        if self.method == "activation":
            return lambda setting: _exact(setting, wanted, labels, crosses, tell)
        linearise = linearisation(self.method, self.options)
        if crosses:
            return lambda setting: _attention_edges(setting, labels, linearise)
        if wanted is None and self.options.get("exact_receivers"):
            return lambda setting: _edges_answered(setting, labels, linearise)
        if wanted is None:
            return lambda setting: _edges(setting, labels, linearise)
        fixed = self.method == "ensemble" or bool(self.options.get("qk_fix"))
        if not fixed or not set(softmax_response.ANSWERED) & set(wanted.kinds):
            return lambda setting: _estimate(setting, wanted, linearise)
        return lambda setting: _estimate_with_response(setting, wanted, linearise)


def _check_arguments(model: object, pairs: object) -> None:
    if not isinstance(model, Model):
        raise ModelError(f"model is {model!r}, not an open model; use circuits.load_model")
    if not isinstance(pairs, PromptPairs):
        raise TaskError(
            f"pairs are {pairs!r}, not PromptPairs; make them with "
            f"circuits.load_task(...).pairs(model.tokenizer) or circuits.load_pairs"
        )


def check_reached(method: str, options: Mapping[str, Any], kind: str) -> None:
    """Refuse sites that a method's rules let no gradient reach.

    Raises:
        MethodError: the rule pattern=detach, and sites that act through the pattern alone.
    """
    if method != "relevance" or kind not in ("q", "k", "pattern"):
        return
    if Rules.parse(options.get("rules", "relp")).pattern == "detach":
        raise MethodError(
            f"the rule pattern=detach gives sites of kind {kind} no gradient, so all their scores "
            f"would be zero; score other sites, or leave the rule out"
        )


@dataclass(frozen=True)
class BatchScores:
    """What one batch gives: per-prompt scores and the metric in both runs."""

    scores: Float[Tensor, "b names"]
    clean: Float[Tensor, " b"]
    corrupted: Float[Tensor, " b"]


def score_batches(
    model: Model,
    pairs: PromptPairs,
    request: Request,
    batch_size: int,
    progress: Progress | None = None,
) -> Iterator[BatchScores]:
    """Batch after batch; when a GPU runs out of memory the batch is halved.

    Raises:
        MethodError: a batch size below 1, or a result that is not finite.
        TaskError: tokens outside the model's vocabulary.
    """
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise MethodError(f"batch_size must be a whole number of at least 1, given {batch_size!r}")
    done, size, steps = 0, 0, request.steps(model)

    def tell(step: int) -> None:
        if progress:
            what = f"{request.method} {request.level} scores"
            progress(done * steps + size * step, len(pairs) * steps, what)

    measure = request.measure(tell)
    tell(0)
    while done < len(pairs):
        part = pairs[done : done + batch_size]
        size = len(part)
        try:
            (batch,) = batches(model, part, batch_size)
            with model.reading():
                measured = measure(Setting(model, batch, request.metric, request.direction))
            yield measured
        except torch.cuda.OutOfMemoryError:
            if len(part) == 1:
                raise
            batch_size = len(part) // 2
            torch.cuda.empty_cache()
            continue
        done += len(part)
        tell(0)


@torch.no_grad()
def _exact(
    setting: Setting, wanted: SiteSet | None, labels: Labels, crosses: bool, tell: Told
) -> BatchScores:
    kinds = activation.EDGE_KINDS if wanted is None else wanted.kinds
    sweep = activation.ExactSweep(setting, attention_edges.KINDS.read if crosses else kinds)
    if crosses:
        found = attention_edges.exact(sweep, labels)
    elif wanted is not None:
        parts, scored = [], 0
        for part in sweep.sites(wanted):
            parts.append(part)
            scored += part.shape[1]
            tell(scored)
        found = torch.cat(parts, dim=1)
    else:
        found = _over(sweep, labels, tell)
    other = setting.metric(sweep.other_logits, setting.batch.pairs)
    clean, corrupted = setting.ordered(sweep.base, other)
    return BatchScores(found, clean, corrupted)


def _attention_edges(setting: Setting, labels: Labels, linearise: Linearise) -> BatchScores:
    found = linearise(setting, attention_edges.KINDS)
    scores = attention_edges.estimates(found, labels, setting.batch)
    return BatchScores(scores, found.metric_clean, found.metric_corrupted)


@torch.no_grad()
def _edges_answered(setting: Setting, labels: Labels, linearise: Linearise) -> BatchScores:
    """Edges whose receivers answer exactly."""
    found = linearise(setting, exact_receivers.KINDS)
    sweep = exact_receivers.ReceiverSweep(setting, found)
    return BatchScores(_over(sweep, labels), found.metric_clean, found.metric_corrupted)


def _over(sweep: activation.ExactSweep, labels: Labels, tell: Told = _nobody) -> Tensor:
    """All edges, over all positions or at each labelled one."""
    if labels == (None,):
        return sweep.edges(tell=tell)
    masks = softmax_response.label_masks(labels, sweep.setting, sweep.kept.first)
    return torch.stack([sweep.edges(at) for at in masks], dim=-1).flatten(1)


def _edges(setting: Setting, labels: Labels, linearise: Linearise) -> BatchScores:
    found = linearise(setting, EDGE_KINDS)
    columns = None if labels == (None,) else label_columns(labels, setting.batch)
    scores = edge_scores(setting.model, found, columns)
    return BatchScores(scores, found.metric_clean, found.metric_corrupted)


def _estimate(setting: Setting, wanted: SiteSet, linearise: Linearise) -> BatchScores:
    found = linearise(setting, Kinds.scoring(wanted.kinds))
    scores = wanted.select(site_scores(found, wanted, setting.batch))
    return BatchScores(scores, found.metric_clean, found.metric_corrupted)


def _estimate_with_response(setting: Setting, wanted: SiteSet, linearise: Linearise) -> BatchScores:
    """Query and key sites answered by the exact softmax (the QK fix)."""
    found = linearise(setting, Kinds.scoring(wanted.kinds).also(*softmax_response.KINDS))
    response = softmax_response.SoftmaxResponse(setting, found, wanted)
    scores = wanted.select(site_scores(found, wanted, setting.batch, response))
    return BatchScores(scores, found.metric_clean, found.metric_corrupted)
