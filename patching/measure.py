"""Measuring: one method on batches of prompt pairs, whatever it scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from patching import (
    activation,
    attention_edges,
    exact_neurons,
    exact_receivers,
    softmax_response,
)
from patching.gradient_scores import edge_kinds, edge_scores, site_scores
from patching.linearised import Kinds, Linearise
from patching.memory import fit
from patching.methods import get, linearisation
from patching.metrics import CheckedMetric, Metric, check_metric
from patching.model import Model
from patching.nodes.edges import EdgeNames
from patching.nodes.layout import Layout, layout_of
from patching.progress import Step, unheard
from patching.rules import Rules
from patching.runs import Batch
from patching.setting import Setting, check_direction
from patching.sitesets import Labels, SiteSet, label_columns, labels_of, site_set
from patching.sweep import Sweep, sweep
from patching.written import read_method
from tasks.errors import MethodError, ModelError, TaskError, unknown
from tasks.pairs import PromptPairs

Sample = tuple[int, int]
"""How many sites at the most, and the seed that draws them."""

MOST_EDGES, MOST_EXACT = 20_000_000, 20_000
"""Edges between neurons that are scored at most, and that are scored exactly at most."""

LEVELS = ("node", "edge", "site", "attention_edge")


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
    names: Sequence[str]
    wanted: SiteSet | None
    labels: Labels = (None,)
    nodes: str = "heads"

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
        nodes: str = "heads",
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
            layout = layout_of(model.anatomy, nodes)
            _check_edges(layout, method, filled)
            edges = EdgeNames(layout, labels)
            return cls(method, filled, level, direction, checked, edges, None, labels, nodes)
        kind = "node" if level == "node" else sites
        wanted = site_set(kind, model.anatomy, pairs, positions, nodes)
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

    def measure(self, tell: Step = unheard) -> Callable[[Setting], BatchScores]:
        """The function that scores one batch; ``tell`` is given how many of its steps are done."""
        wanted, labels, crosses = self.wanted, self.labels, self.level == "attention_edge"
        nodes = self.nodes
        if self.method == "activation" and self.level == "edge" and nodes == "neurons":
            return lambda setting: BatchScores(*exact_neurons.edges(setting))
        if self.method == "activation":
            return lambda setting: _exact(setting, wanted, labels, crosses, tell)
        linearise = linearisation(self.method, self.options)
        if crosses:
            return lambda setting: _attention_edges(setting, labels, linearise)
        if wanted is None and self.options.get("exact_receivers"):
            return lambda setting: _edges_answered(setting, labels, linearise)
        if wanted is None:
            return lambda setting: _edges(setting, labels, linearise, nodes)
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


def _check_edges(layout: Layout, method: str, options: Mapping[str, Any]) -> None:
    """Refuse edges between neurons that are too many, or that a method does not have.

    Raises:
        MethodError: see above.
    """
    if layout.nodes == "heads":
        return
    if layout.n_edges > MOST_EDGES:
        raise MethodError(
            f"between heads and neurons this model has {layout.n_edges:,} edges; at most "
            f"{MOST_EDGES:,} are scored: score neurons as nodes (level='node'), or heads and MLPs"
        )
    if options.get("exact_receivers"):
        raise MethodError("exact_receivers are heads and whole MLPs; leave it out, or nodes")
    if method == "activation" and layout.n_edges > MOST_EXACT:
        raise MethodError(
            f"each of {layout.n_edges:,} edges would be a run of the model; at most {MOST_EXACT:,} "
            f"are done exactly: take an estimate, such as secant"
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
    made: Callable[[BatchScores], tuple[np.ndarray, ...]],
    options: Sweep,
) -> Iterator[tuple[np.ndarray, ...]]:
    """What ``made`` keeps of the scores of every batch.

    Raises:
        MethodError: a result that is not finite.
        TaskError: tokens outside the model's vocabulary.
    """
    steps, what, again = request.steps(model), f"{request.method} {request.level} scores", False
    if options.memory is not None and request.method != "activation":
        most = min(options.batch_size, len(pairs))
        picked = fit(model, pairs.clean.shape[1], most, options.memory)
        options, again = replace(options, batch_size=picked.batch_size), picked.again
        what = f"{what}, {picked}"
    options = options.counting(len(pairs) * steps, what)

    def work(batch: Batch) -> tuple[np.ndarray, ...]:
        done = 0

        def tell(step: int) -> None:
            nonlocal done
            options.tell(len(batch) * (step - done))
            done = step

        setting = Setting(model, batch, request.metric, request.direction, again)
        return made(request.measure(tell)(setting))

    return sweep(model, pairs, work, options, steps)


@torch.no_grad()
def _exact(
    setting: Setting, wanted: SiteSet | None, labels: Labels, crosses: bool, tell: Step
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


def _over(sweep: activation.ExactSweep, labels: Labels, tell: Step = unheard) -> Tensor:
    """All edges, over all positions or at each labelled one."""
    if labels == (None,):
        return sweep.edges(tell=tell)
    masks = softmax_response.label_masks(labels, sweep.setting, sweep.kept.first)
    return torch.stack([sweep.edges(at) for at in masks], dim=-1).flatten(1)


def _edges(setting: Setting, labels: Labels, linearise: Linearise, nodes: str) -> BatchScores:
    layout = layout_of(setting.model.anatomy, nodes)
    found = linearise(setting, edge_kinds(layout, setting.model))
    columns = None if labels == (None,) else label_columns(labels, setting.batch)
    scores = edge_scores(setting.model, found, layout, columns)
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
