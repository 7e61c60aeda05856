"""How far each estimate can be trusted on your model and your task.

The papers' figures are for the papers' models. Here every estimate is compared with the exact
effect of the same sites, for the same prompts, in both directions: correlation, ranks, signs and
the strongest sites, with bootstrap intervals over prompts, and the time each takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from circuits.validation.forecast import Forecast, forecast, groups_of, positions_of
from circuits.validation.result import Comparison, SiteSample, Validation
from circuits.validation.statistics import agreement
from patching.written import read_method
from tasks.errors import MethodError, unknown

if TYPE_CHECKING:
    from circuits.clock import Progress
    from patching.metrics import Metric
    from patching.model import Model
    from patching.sweep import Sweep
    from tasks import PromptPairs

KINDS = ("resid_pre", "attn_out", "mlp_out", "z", "q", "k", "v")
"""Kinds of sites compared by default; ``edge`` is compared when asked for."""

SITES = 96
"""Of how many sites of a kind the exact effect is measured, at the most."""

METHODS = (
    "attribution",
    "attribution:qk_fix=true",
    "relevance",
    "ig",
    "secant",
    "secant:share=0.5",
    "secant:share=0.5+qk_fix=true",
    "ensemble",
)

DIRECTIONS = ("noising", "denoising")


def validate(
    model: Model,
    pairs: PromptPairs,
    methods: Sequence[str] = METHODS,
    kinds: Sequence[str] = KINDS,
    *,
    directions: Sequence[str] = DIRECTIONS,
    metric: str | Metric | None = None,
    positions: str | None = None,
    sites: int = SITES,
    batch_size: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> Validation:
    """Every estimate beside the exact effect, per kind of site and direction.

    Each of the ``methods`` is written with its options, such as ``relevance:rules=gim``; ``kinds``
    are kinds of sites, or ``edge``. Residual-stream kinds
    are compared at each position (``token`` where all prompts are equally long, else ``named``,
    else ``all``), heads over all positions, ``edge`` over all edges. Of a kind with more than
    ``sites`` sites, this many are drawn with ``seed``, the same ones in both directions.

    >>> circuits.validate(model, pairs, ["secant", "ig:steps=3"], ["z"]).to_frame().shape
    (4, 18)

    Raises:
        MethodError: an unknown method, option, kind or direction, or fewer than two sites.
    """
    from patching.sweep import Sweep

    plan = Plan(model, pairs, methods, kinds, directions, metric, positions, sites, seed)
    options = Sweep(batch_size, progress)
    return carried_out(plan, plan.work(options), options)


@dataclass(frozen=True)
class Plan:
    """A validation that is not yet begun; ``work`` says how much it is. See :func:`validate`."""

    model: Model
    pairs: PromptPairs
    methods: Sequence[str]
    kinds: Sequence[str]
    directions: Sequence[str] = DIRECTIONS
    metric: str | Metric | None = None
    positions: str | None = None
    sites: int = SITES
    seed: int = 0

    @cached_property
    def parsed(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """The methods, each with its name and options."""
        return check_asked(self.methods, self.kinds, self.directions)

    def work(self, options: Sweep) -> Forecast:
        """How much it is; the time of one forward pass is measured.

        Raises:
            MethodError: as for :func:`validate`.
        """
        from patching.sitesets import site_set

        parsed = self.parsed
        if self.sites < 2:
            raise MethodError(f"sites is {self.sites}; at least 2 are needed to compare anything")
        every = {
            kind: site_set(kind, self.model.anatomy, self.pairs, self._positions(kind))
            for kind in self.kinds
            if kind != "edge"
        }
        chosen = {kind: (each.sample(self.sites, self.seed), each) for kind, each in every.items()}
        which = parsed, self.kinds, len(self.directions)
        return forecast(self.model, self.pairs, *which, chosen, options)

    def _positions(self, kind: str) -> str:
        return self.positions or positions_of(kind, self.pairs)

    def measure(
        self,
        method: str,
        options: dict[str, Any],
        kinds: Sequence[str],
        direction: str,
        sweep: Sweep,
    ) -> tuple[Sequence[str], Float[np.ndarray, "n s"], float]:
        """Names, per-prompt scores and seconds of one method; estimates are of all sites."""
        from patching.scoring import prompt_scores

        level = kinds[0] if kinds[0] in ("edge", "node") else "site"
        exact = method == "activation" and level != "edge"
        begin = sweep.seconds()
        scores, rows = prompt_scores(
            self.model,
            self.pairs,
            method,
            level,
            direction,
            self.metric or self.pairs.metric,
            sites="node" if level != "site" else ",".join(kinds),
            positions=self._positions(kinds[0]),
            batch_size=sweep,
            sample=(self.sites, self.seed) if exact else None,
            **options,
        )
        return scores.names, rows, sweep.seconds() - begin


def carried_out(plan: Plan, work: Forecast, options: Sweep) -> Validation:
    """Measure everything that is planned."""
    steps, comparisons = _Steps(options.progress, work.passes), list[Comparison]()
    inside = options.afresh(progress=steps.inside)
    for direction in plan.directions:
        exact = {}
        for kind in plan.kinds:
            steps.next(f"exact {kind}, {direction}", work.exact[kind])
            exact[kind] = plan.measure("activation", {}, [kind], direction, inside)
        for kinds in groups_of(plan.kinds):
            for text, (name, own) in plan.parsed.items():
                steps.next(f"{text}, {direction}", work.estimates[kinds][text])
                measured = plan.measure(name, own, kinds, direction, inside)
                comparisons += _comparisons(text, direction, kinds, exact, measured, plan.seed)
    steps.next("agreement", 0.0)
    order = {text: i for i, text in enumerate((*plan.kinds, *plan.directions, *plan.methods))}
    comparisons.sort(key=lambda c: (order[c.kind], order[c.direction], order[c.method]))
    return _validation(plan, work, options, comparisons)


class _Steps:
    """Progress over all steps in one count of forward passes, the step in progress named."""

    def __init__(self, progress: Progress | None, passes: float) -> None:
        self.progress, self.passes = progress, passes
        self.before = self.cost = 0.0
        self.what = ""

    def next(self, what: str, cost: float) -> None:
        """Another step begins, of so many passes."""
        self.before += self.cost
        self.what, self.cost = what, cost
        self.inside(0, 1, "")

    def inside(self, done: int, total: int, _what: str) -> None:
        """So much of the step is done."""
        if self.progress:
            now = self.before + self.cost * done / max(total, 1)
            self.progress(round(now), round(self.passes), "forward passes")


def _comparisons(
    method: str,
    direction: str,
    kinds: Sequence[str],
    exact: dict[str, tuple[Sequence[str], Float[np.ndarray, "n s"], float]],
    measured: tuple[Sequence[str], Float[np.ndarray, "n s"], float],
    seed: int,
) -> Iterator[Comparison]:
    """A method against the exact effects of the sites of some kinds, which share its time."""
    names, every, seconds = measured
    column = {name: i for i, name in enumerate(names)}
    for kind in kinds:
        sites, effects, exact_seconds = exact[kind]
        rows = every[:, [column[name] for name in sites]]
        yield Comparison(
            method=method,
            kind=kind,
            direction=direction,
            measures=agreement(effects, rows, seed),
            seconds=seconds / len(kinds),
            exact_seconds=exact_seconds,
            names=tuple(sites),
            exact=effects.mean(0),
            estimate=rows.mean(0),
        )


def _validation(
    plan: Plan, work: Forecast, options: Sweep, comparisons: list[Comparison]
) -> Validation:
    from circuits.models import name_of
    from patching.ablation.run import baselines
    from patching.metrics import metric_name

    metric = plan.metric or plan.pairs.metric
    clean, corrupted = baselines(plan.model, plan.pairs, metric, options)
    return Validation(
        comparisons=tuple(comparisons),
        task=plan.pairs.task,
        model=name_of(plan.model.path),
        model_hash=plan.model.hash,
        metric=metric_name(metric),
        count=plan.pairs.prompts,
        total_effect=float((clean - corrupted).mean()),
        sites={kind: SiteSample(*counts) for kind, counts in work.sites.items()},
    )


def check_asked(
    methods: Sequence[str], kinds: Sequence[str], directions: Sequence[str] = DIRECTIONS
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Every method as it is written, with its name and options; nothing is opened for it.

    Raises:
        MethodError: an unknown method, option, kind or direction.
    """
    from patching.measure import check_reached
    from patching.setting import check_direction
    from patching.sitesets import KINDS as SITES

    for kind in kinds:
        if kind not in (*SITES, "edge"):
            raise MethodError(unknown("kind of site", kind, (*SITES, "edge")))
    for direction in directions:
        check_direction(direction)
    estimates = {text: parse_method(text) for text in methods}
    for name, options in estimates.values():
        for kind in kinds:
            check_reached(name, options, kind)
    return estimates


def parse_method(text: str) -> tuple[str, dict[str, Any]]:
    """A method and its options from ``name:option=value+option=value``.

    Raises:
        MethodError: an unknown method or option, or a value that cannot be read.
    """
    from patching.methods import check_effect

    name, options = read_method(text)
    if name == "activation":
        raise MethodError("activation is what the estimates are compared with; name another method")
    check_effect(name, "a validation")
    return name, options
