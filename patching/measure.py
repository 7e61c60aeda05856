"""Measuring: one method on batches of prompt pairs, whatever it scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from patching import attention_edges, batch_scores, softmax_response
from patching.batch_scores import BatchScores
from patching.choice import ESTIMATE, Chosen
from patching.costs import choose
from patching.learned.settings import Settings
from patching.memory import fit
from patching.methods import check_effect, get, linearisation
from patching.metrics import CheckedMetric, Metric, check_metric, metric_name
from patching.model import Model
from patching.nodes.edges import EdgeNames
from patching.nodes.layout import Layout, layout_of
from patching.places import places_of
from patching.progress import Step, unheard
from patching.rules import Rules
from patching.runs import Batch
from patching.setting import Setting, check_direction
from patching.sitesets import Labels, SiteSet, labels_of, site_set
from patching.sweep import Sweep, sweep
from patching.written import read_method
from tasks.errors import MethodError, ModelError, TaskError, unknown
from tasks.pairs import PromptPairs

Sample = tuple[int, int]
"""How many sites at the most, and the seed that draws them."""

MOST_EDGES, MOST_EXACT = 20_000_000, 20_000
"""Edges between neurons that are scored at most, and that are scored exactly at most."""

LEVELS = ("node", "edge", "site", "attention_edge", "placed")
BETWEEN = ("edge", "attention_edge", "placed")
AUTO, EXACT, FOR_EDGES = "auto", "activation", "secant"
"""The method that chooses, and what it takes where all is exact, and of edges."""


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
        parts = wanted.names, wanted, labels, nodes
        request = cls(method, filled, level, direction, checked, *parts)
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

    def measure(self, tell: Step = unheard) -> Callable[[Setting], BatchScores]:
        """The function that scores one batch; ``tell`` is given how many of its steps are done."""
        wanted, labels, crosses = self.wanted, self.labels, self.level == "attention_edge"
        nodes = self.nodes
        if self.chosen is not None:
            parts = [(part.measure(tell), places) for part, places in self.parts]
            return lambda setting: batch_scores.together(setting, parts, len(self.names))
        if self.level == "placed":
            estimated = self.method != EXACT
            by = linearisation(self.method, self.options) if estimated else None
            return lambda setting: batch_scores.placed(setting, labels, by)
        if self.method == "activation" and self.level == "edge" and nodes == "neurons":
            return batch_scores.neuron_edges
        if self.method == "activation":
            return lambda setting: batch_scores.exact(setting, wanted, labels, crosses, tell)
        linearise = linearisation(self.method, self.options)
        if crosses:
            return lambda setting: batch_scores.crossing(setting, labels, linearise)
        if wanted is None and self.options.get("exact_receivers"):
            return lambda setting: batch_scores.edges_answered(setting, labels, linearise)
        if wanted is None:
            return lambda setting: batch_scores.edges(setting, labels, linearise, nodes)
        fixed = self.method == "ensemble" or bool(self.options.get("qk_fix"))
        if not fixed or not set(softmax_response.ANSWERED) & set(wanted.kinds):
            return lambda setting: batch_scores.estimate(setting, wanted, linearise)
        return lambda setting: batch_scores.estimate_with_response(setting, wanted, linearise)


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
