"""Selecting a circuit by one of :mod:`circuits.selectors`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from circuits.evaluation.enough import sizes_needed
from circuits.evaluation.running import Running
from circuits.selection.combine import among, bootstrap_excludes_zero, steady
from circuits.selection.placed import circuit_at_places
from circuits.selection.scored import ScoreSet
from graphs import by_threshold, from_scores
from tasks.errors import RunError

if TYPE_CHECKING:
    from circuits.config import Config
    from graphs import CircuitGraph
    from patching.model import Model
    from patching.sweep import Sweep
    from tasks import PromptPairs


@dataclass(frozen=True)
class SelectionInput:
    """What a circuit is selected from; some selectors run ``model`` on ``pairs`` again."""

    config: Config
    options: Mapping[str, Any]
    scored: ScoreSet
    model: Model
    pairs: PromptPairs
    sweep: Sweep

    @property
    def running(self) -> Running:
        """How circuits are run while one is being chosen, with means settled for all of them."""
        how = {"metric": self.config.metric, "ablation": self.config.ablation}
        return Running.over(self.sweep, **how).settled(self.model, self.pairs)


def select_by(
    config: Config,
    scored: ScoreSet,
    model: Model,
    pairs: PromptPairs,
    sweep: Sweep | None = None,
) -> CircuitGraph:
    """The circuit that a configuration's choice makes of the scores.

    Raises:
        CircuitsError: an unknown selector, or one that these scores do not serve.
    """
    sweep = sweep or config.sweep()
    if config.faithful is not None:
        config = _sized(config, scored, model, pairs, sweep)
    choice = config.choice
    return SELECT[choice.selector.name](
        SelectionInput(config, choice.options, scored, model, pairs, sweep)
    )


def _sized(
    config: Config, scored: ScoreSet, model: Model, pairs: PromptPairs, sweep: Sweep
) -> Config:
    """The configuration with the number of edges that gives the share of the answer asked for.

    Raises:
        RunError: the model does not do the task, so that there is no share of it.
    """
    assert config.faithful is not None
    how = {"metric": config.metric, "ablation": config.ablation}
    running = Running.over(sweep.afresh(), **how).settled(model, pairs, config.nodes)
    absolute = config.choice.options["absolute"]
    shares = (config.faithful,)
    needed = sizes_needed(model, pairs, scored.scores, shares, absolute, running)
    if not needed:
        raise RunError(
            f"the model answers the clean and the corrupted prompts alike, so no circuit gives "
            f"{config.faithful:g} of the difference; take another task or model, or --top"
        )
    return replace(config, top=needed[0].count, faithful=None, select=_plainly(config))


def _plainly(config: Config) -> str:
    """The choice without filling up: the size was measured with what connects nothing left out."""
    absolute = str(config.choice.options["absolute"]).lower()
    return f"top:absolute={absolute}+fill=false"


def _ranked(given: SelectionInput, rule: str) -> CircuitGraph:
    size, options = given.config.size or 0, given.options
    return from_scores(
        given.scored.scores,
        size,
        rule=rule,
        absolute=options["absolute"],
        fill=options.get("fill", False),
    )


def _top(given: SelectionInput) -> CircuitGraph:
    if given.config.positions:
        budget, absolute = given.config.size or 0, given.options["absolute"]
        return circuit_at_places(
            given.scored.scores, given.model, given.pairs, budget, absolute=absolute
        )
    return _ranked(given, "top")


def _greedy(given: SelectionInput) -> CircuitGraph:
    return _ranked(given, "greedy")


def _threshold(given: SelectionInput) -> CircuitGraph:
    return by_threshold(given.scored.scores, given.options["least"], given.options["absolute"])


def _acdc(given: SelectionInput) -> CircuitGraph:
    from circuits.selection.prune import acdc
    from patching.sites import parse_edge

    first = given.options["start"]
    ranked = given.scored.scores.ranked()[:first]
    start = [parse_edge(name) for name in ranked] if first else None
    return acdc(
        given.model, given.pairs, given.options["least"], start=start, running=given.running
    )


def _iterated(given: SelectionInput) -> CircuitGraph:
    from circuits.selection.prune import iterated

    options, size = given.options, given.config.size or 0
    (graph,) = iterated(
        given.model,
        given.pairs,
        (size,),
        start=given.scored.scores,
        **options,
        running=given.running,
    )
    return graph


def _bootstrap(given: SelectionInput) -> CircuitGraph:
    scores, options, size = given.scored.scores, given.options, given.config.size
    if options["interval"] == "normal":
        graph = steady(scores, size, absolute=options["absolute"])
    else:
        sure = bootstrap_excludes_zero(
            given.scored.per_prompt, given.config.seed, int(options["times"])
        )
        graph = among(scores, sure, size, absolute=options["absolute"])
    selection = replace(graph.info.selection, rule="bootstrap", requested=size)
    return graph.with_info(selection=selection)


SELECT: Mapping[str, Callable[[SelectionInput], CircuitGraph]] = {
    "top": _top,
    "threshold": _threshold,
    "greedy": _greedy,
    "acdc": _acdc,
    "iterated": _iterated,
    "bootstrap": _bootstrap,
}
"""A function for every selector."""


def needs_rows(config: Config) -> bool:
    """Whether a configuration's choice is made from every prompt's own scores."""
    choice = config.choice
    return choice.selector.name == "bootstrap" and choice.options["interval"] == "resampled"
