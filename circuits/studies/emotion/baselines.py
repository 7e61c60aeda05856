"""The circuit beside its baselines and its controls, with strengths found by one rule for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from circuits.clock import Progress
from circuits.studies.emotion.circuit import Components
from circuits.studies.emotion.prompts import EmotionPrompt
from circuits.studies.emotion.side_effects import OTHERS, other_tasks, perplexities
from circuits.studies.emotion.strength import FIRST, Tuning, tune
from circuits.studies.emotion.trial import Harness, Make, Trial, untouched
from patching.progress import Count
from tasks.stories import stories

STORIES = 40
OTHER_PROMPTS = 60
SIDE = {
    "no control": "no control, neutral prompt",
    "circuit": "circuit",
    "steering": "steering",
    "circuit ablated": "prompting, circuit ablated",
    "random components ablated": "prompting, random components ablated",
}
"""The conditions whose side effects are measured, by what is done to the model."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of control: what it does in a harness, by draw; whether prompts ask as well."""

    makes: Callable[[Harness], list[Make]]
    asked: bool = False


@dataclass(frozen=True)
class Baselines:
    """What stands beside the circuit.

    tuning    the prompts on which strengths are found; no test prompt is among them
    tests     the prompts that all conditions are tried on
    vectors   the probes' unit weights, to steer along ``[labels, layers, d]``
    draws     how many sets of random components there are
    """

    tuning: Sequence[EmotionPrompt]
    tests: Sequence[EmotionPrompt]
    vectors: Float[np.ndarray, "labels layers d"]
    draws: int
    seed: int


def random_components(harness: Harness, draws: int, seed: int) -> list[list[Components]]:
    """As many components as the circuit of each label has, none of its own, drawn several times."""
    anatomy = harness.model.anatomy
    return [
        [c.random_others(anatomy, (seed, draw, e)) for e, c in enumerate(harness.chosen)]
        for draw in range(draws)
    ]


def compare(
    harness: Harness, baselines: Baselines, progress: Progress | None = None
) -> tuple[tuple[Trial, ...], dict[str, Any]]:
    """A trial of every way, and for the report their strengths and side effects."""
    others = random_components(harness, baselines.draws, baselines.seed)
    tunings = _tunings(harness, baselines, others, progress)
    conditions = _conditions(
        {name: tuning.strengths for name, tuning in tunings.items()}, baselines, others
    )
    trials = []
    for done, (name, way) in enumerate(conditions.items()):
        _tell(progress, done, len(conditions), "control of replies")
        trials.append(harness.try_out(name, baselines.tests, way.makes(harness), way.asked))
    strengths = {name: tuning.to_json() for name, tuning in tunings.items()}
    results = {
        "strengths": strengths | {"steered_layers": list(harness.layers)},
        "random_draws": baselines.draws,
        "side_effects": _side_effects(harness, conditions, baselines.seed, progress),
    }
    return tuple(trials), results


def _tunings(
    harness: Harness,
    baselines: Baselines,
    others: Sequence[Sequence[Components]],
    progress: Progress | None,
) -> dict[str, Tuning]:
    h = harness
    makes: dict[str, tuple[float, Callable[[float], list[Make]]]] = {
        "circuit": (FIRST["circuit"], lambda s: [h.enhanced(s)]),
        "steering": (FIRST["steering"], lambda s: [h.steered(s)]),
        "steering along probes": (
            FIRST["steering"],
            lambda s: [h.steered(s, baselines.vectors)],
        ),
        "random components": (FIRST["circuit"], lambda s: [h.enhanced(s, o) for o in others]),
    }
    tunings = {}
    for done, (name, (first, make)) in enumerate(makes.items()):
        _tell(progress, done, len(makes), "strengths")
        tunings[name] = tune(harness, baselines.tuning, make, first)
    return tunings


def _conditions(
    strengths: dict[str, tuple[float, ...]],
    baselines: Baselines,
    others: Sequence[Sequence[Components]],
) -> dict[str, Condition]:
    push, shove = strengths["circuit"], strengths["steering"]
    along, own = strengths["steering along probes"], strengths["random components"]
    return {
        "no control, neutral prompt": Condition(_leave),
        "prompting": Condition(_leave, asked=True),
        "circuit": Condition(lambda h: [h.enhanced(push)]),
        "steering": Condition(lambda h: [h.steered(shove)]),
        "steering along probes": Condition(lambda h: [h.steered(along, baselines.vectors)]),
        "random components": Condition(lambda h: [h.enhanced(push, o) for o in others]),
        "random components, own strength": Condition(
            lambda h: [h.enhanced(own, o) for o in others]
        ),
        "prompting, circuit ablated": Condition(lambda h: [h.silenced()], asked=True),
        "prompting, random components ablated": Condition(
            lambda h: [h.silenced(o) for o in others], asked=True
        ),
    }


def _leave(harness: Harness) -> list[Make]:
    del harness
    return [untouched]


def _side_effects(
    harness: Harness, conditions: dict[str, Condition], seed: int, progress: Progress | None
) -> dict[str, Any]:
    # Driven at all tokens, each token of a text is changed as it would be were it the last.
    everywhere = replace(harness, positions="all")
    texts = stories(STORIES, seed)
    by_name = {name: conditions[way].makes for name, way in SIDE.items()}
    at_end = {name: makes(harness) for name, makes in by_name.items()}
    count = Count(progress, len(by_name) * (1 + len(OTHERS)), "side effects")
    return {
        "perplexity": perplexities(
            everywhere, texts, {name: makes(everywhere) for name, makes in by_name.items()}, count
        ),
        "other_tasks": other_tasks(harness, at_end, OTHER_PROMPTS, seed, count),
    }


def _tell(progress: Progress | None, done: int, total: int, what: str) -> None:
    if progress is not None:
        progress(done, total, what)
