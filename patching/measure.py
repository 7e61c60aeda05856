"""Measuring: one method on batches of prompt pairs, whatever it scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from patching import (
    activation,
    attention_edges,
    exact_receivers,
    placed_scores,
    softmax_response,
)
from patching.anatomy import Anatomy
from patching.choice import ESTIMATE, Chosen
from patching.circuit_run import CircuitRunner
from patching.costs import estimate_blocks, exact_blocks
from patching.gradient_scores import edge_kinds, edge_scores, site_scores
from patching.learned.settings import Settings
from patching.linearised import Kinds, Linearise
from patching.methods import check_effect, get, linearisation
from patching.metrics import CheckedMetric, Metric, check_metric, metric_name
from patching.model import Model
from patching.nodes.edges import EdgeNames, EdgeSet
from patching.nodes.layout import Layout, layout_of
from patching.places import place_numbers, places_of
from patching.rules import Rules
from patching.runs import Batch
from patching.setting import Setting, check_direction
from patching.sitesets import SiteSet, label_columns, labels_of, site_set
from patching.sweep import Sweep, sweep
from patching.written import read_method
from tasks.errors import MethodError, ModelError, TaskError, unknown
from tasks.pairs import PromptPairs

Labels = tuple[int | str | None, ...]

Told = Callable[[int], None]
Sample = tuple[int, int]
"""How many sites at the most, and the seed that draws them."""

MOST_EDGES, MOST_EXACT = 20_000_000, 20_000
"""Edges between neurons that are scored at most, and that are scored exactly at most."""

LEVELS = ("node", "edge", "site", "attention_edge", "placed")
BETWEEN = ("edge", "attention_edge", "placed")
AUTO, EXACT, FOR_EDGES = "auto", "activation", "secant"
"""The method that chooses, and what it takes where all is exact, and of edges."""


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
    names: Sequence[str]
    wanted: SiteSet | None
    labels: Labels = (None,)
    nodes: str = "heads"
    chosen: Chosen | None = None

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
        if method == AUTO and level in BETWEEN:
            method = FOR_EDGES
        if twice := sorted(written.keys() & options.keys()):
            raise MethodError(f"{twice[0]} is given behind the method and beside it: leave one out")
        filled = get(method).check({**written, **options})
        if filled.get("exact_receivers") and filled.get("grad_drop"):
            raise MethodError("exact_receivers and grad_drop exclude each other: choose one")
        check_direction(direction)
        if level not in LEVELS:
            raise MethodError(unknown("level", level, LEVELS))
        if get(method).tier == "set":
            check_set(method, filled, level, positions, metric)
        if level != "site" and sites != "node":
            raise MethodError(f"sites='{sites}' goes with level='site', not with '{level}'")
        checked = check_metric(metric)
        if level == "placed":
            request = cls(method, filled, level, direction, checked, (), None)
            return request.at_places(model, pairs, positions, nodes)
        labels = labels_of(positions, pairs)
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
        request = cls(method, filled, level, direction, checked, wanted.names, wanted, labels)
        if method != AUTO:
            return request
        return replace(request, chosen=choose(wanted, pairs, model.anatomy))

    def at_places(self, model: Model, pairs: PromptPairs, positions: str, nodes: str) -> Request:
        """The same asked of edges at places and of crossing edges between them.

        Raises:
            MethodError, SiteError: places that these prompts do not have, neurons, or receivers
                that answer exactly.
        """
        if nodes != "heads" or self.options.get("exact_receivers"):
            raise MethodError("at positions, edges lie between heads and whole MLPs, estimated")
        labels = places_of(positions, pairs)
        edges = EdgeNames(layout_of(model.anatomy), labels)
        names = (*edges, *attention_edges.names(model.anatomy, labels))
        return replace(self, names=names, labels=labels)

    def of_sites(self, wanted: SiteSet, method: str) -> Request:
        """The same asked of some of the sites, by another method as it is written."""
        name, written = read_method(method)
        options = get(name).check(written)
        given = replace(self, method=name, options=options, chosen=None)
        return replace(given, wanted=wanted, names=wanted.names)

    @property
    def parts(self) -> list[tuple[Request, Int[np.ndarray, " some"]]]:
        """What ``auto`` asks of each kind of site, and the places of its sites among all names."""
        assert self.wanted is not None
        assert self.chosen is not None
        ways = ((EXACT, self.chosen.exact), (ESTIMATE, self.chosen.estimated))
        split = [(method, *self.wanted.split(kinds)) for method, kinds in ways if kinds]
        return [(self.of_sites(some, method), places) for method, some, places in split]

    def steps(self, model: Model) -> int:
        """In how many steps a batch is told of: those of the exact effect, else one."""
        if self.chosen is not None:
            return sum(part.steps(model) for part, _ in self.parts)
        if self.method != "activation" or self.level in ("attention_edge", "placed"):
            return 1
        if self.wanted is not None:
            return len(self.wanted)
        return model.anatomy.n_layers + 1 if self.labels == (None,) else 1

    def measure(self, tell: Told = _nobody) -> Callable[[Setting], BatchScores]:
        """The function that scores one batch; ``tell`` is given how many of its steps are done."""
        wanted, labels, crosses = self.wanted, self.labels, self.level == "attention_edge"
        nodes = self.nodes
        if self.chosen is not None:
            parts = [(part.measure(tell), places) for part, places in self.parts]
            return lambda setting: _together(setting, parts, len(self.names))
        if self.level == "placed":
            return lambda setting: self._placed(setting)
        if self.method == "activation" and self.level == "edge" and nodes == "neurons":
            return _neuron_edges
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

    def _placed(self, setting: Setting) -> BatchScores:
        """Edges at places, and crossing edges between them."""
        at, count = place_numbers(self.labels, setting.batch), len(self.labels)
        if self.method == EXACT:
            sweep = activation.ExactSweep(setting, placed_scores.EXACT_KINDS)
            other = setting.metric(sweep.other_logits, setting.batch.pairs)
            clean, corrupted = setting.ordered(sweep.base, other)
            return BatchScores(placed_scores.exact(sweep, at, count), clean, corrupted)
        layout = layout_of(setting.model.anatomy)
        linearise = linearisation(self.method, self.options)
        found = linearise(setting, placed_scores.kinds(layout))
        scores = placed_scores.estimates(setting.model, found, layout, at, count)
        return BatchScores(scores, found.metric_clean, found.metric_corrupted)


def choose(wanted: SiteSet, pairs: PromptPairs, anatomy: Anatomy) -> Chosen:
    """Kind by kind, the exact effects where they cost no more than the estimate."""
    steps = int(read_method(ESTIMATE)[1]["steps"])
    ways: dict[bool, list[str]] = {True: [], False: []}
    cost = cost_exact = 2.0 * anatomy.n_layers
    for kind in wanted.kinds:
        some, _ = wanted.split([kind])
        exact = exact_blocks(some, pairs, anatomy)
        estimate = estimate_blocks(some, anatomy, steps)
        ways[exact <= estimate].append(kind)
        cost, cost_exact = cost + min(exact, estimate), cost_exact + exact
    return Chosen(tuple(ways[True]), tuple(ways[False]), cost, cost_exact)


def _together(setting: Setting, parts: Sequence[Any], count: int) -> BatchScores:
    """The scores of several requests, each at its places."""
    found = [(part(setting), places) for part, places in parts]
    first = found[0][0]
    kind = torch.promote_types(found[0][0].scores.dtype, found[-1][0].scores.dtype)
    scores = first.scores.new_empty(len(setting.batch), count, dtype=kind)
    for each, places in found:
        scores[:, torch.from_numpy(places).to(scores.device)] = each.scores.to(kind)
    return replace(first, scores=scores)


def check_set(
    method: str, options: Mapping[str, Any], level: str, positions: str, metric: str | Metric
) -> None:
    """Refuse what cannot be learned as circuits of all sizes.

    Raises:
        MethodError: another level than edges or nodes, single positions, settings that cannot be
            meant, or a loss that the metric cannot give.
    """
    if level not in get(method).levels:
        check_effect(method, f"a score of level '{level}'")
    if positions != "all":
        raise MethodError(
            f"'{method}' trains edges and nodes over all positions; take positions=all, or an "
            f"estimate such as secant"
        )
    Settings.of(options).check_metric(metric_name(metric))


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
    steps, what = request.steps(model), f"{request.method} {request.level} scores"
    options = options.counting(len(pairs) * steps, what)

    def work(batch: Batch) -> tuple[np.ndarray, ...]:
        done = 0

        def tell(step: int) -> None:
            nonlocal done
            options.tell(len(batch) * (step - done))
            done = step

        setting = Setting(model, batch, request.metric, request.direction)
        return made(request.measure(tell)(setting))

    return sweep(model, pairs, work, options, steps)


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


@torch.no_grad()
def _neuron_edges(setting: Setting) -> BatchScores:
    """Exact effects between heads and neurons, by their definition: one run for each edge.

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
    clean, corrupted = metric(whole), metric(EdgeSet.none(layout))
    return BatchScores(torch.stack(columns, dim=1), clean, corrupted)


def _over(sweep: activation.ExactSweep, labels: Labels, tell: Told = _nobody) -> Tensor:
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
