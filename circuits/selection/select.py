"""Selecting a circuit by one of :mod:`circuits.selection.selectors`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from circuits.evaluation.running import Running
from circuits.scored import ScoreSet
from circuits.selection.combine import among, bootstrap_excludes_zero, steady
from graphs import by_threshold, from_scores

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
    choice = config.choice
    return SELECT[choice.selector.name](
        SelectionInput(config, choice.options, scored, model, pairs, sweep or config.sweep())
    )


def _ranked(asked: SelectionInput, rule: str) -> CircuitGraph:
    size, options = asked.config.size or 0, asked.options
    return from_scores(
        asked.scored.scores,
        size,
        rule=rule,
        absolute=options["absolute"],
        fill=options.get("fill", False),
    )


def _top(asked: SelectionInput) -> CircuitGraph:
    return _ranked(asked, "top")


def _greedy(asked: SelectionInput) -> CircuitGraph:
    return _ranked(asked, "greedy")


def _threshold(asked: SelectionInput) -> CircuitGraph:
    return by_threshold(asked.scored.scores, asked.options["least"], asked.options["absolute"])


def _acdc(asked: SelectionInput) -> CircuitGraph:
    from circuits.selection.prune import acdc
    from patching.sites import parse_edge

    first = asked.options["start"]
    ranked = asked.scored.scores.ranked()[:first]
    start = [parse_edge(name) for name in ranked] if first else None
    return acdc(
        asked.model, asked.pairs, asked.options["least"], start=start, running=asked.running
    )


def _iterated(asked: SelectionInput) -> CircuitGraph:
    from circuits.selection.prune import iterated

    options, size = asked.options, asked.config.size or 0
    (found,) = iterated(
        asked.model,
        asked.pairs,
        (size,),
        start=asked.scored.scores,
        **options,
        running=asked.running,
    )
    return found


def _bootstrap(asked: SelectionInput) -> CircuitGraph:
    scores, options, size = asked.scored.scores, asked.options, asked.config.size
    if options["interval"] == "normal":
        found = steady(scores, size, absolute=options["absolute"])
    else:
        sure = bootstrap_excludes_zero(
            asked.scored.per_prompt, asked.config.seed, int(options["times"])
        )
        found = among(scores, sure, size, absolute=options["absolute"])
    told = replace(found.info.selection, rule="bootstrap", requested=size)
    return found.with_info(selection=told)


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
