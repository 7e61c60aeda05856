"""The circuits with which a model shows what it is asked to show: found, assembled and driven.

After Wang et al. 2025, arXiv 2510.11328, for any labels whose prompts come in groups.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.clock import Clock, Progress
from circuits.directions import Directions, Groups, Reference, find_directions, find_reference
from circuits.emotion_circuit import Budget, Components, circuits_of
from circuits.emotion_influence import Influence, find_influence
from circuits.emotion_parts import (
    Parts,
    ablated_head_scores,
    check_norm,
    find_parts,
    head_scores,
)
from circuits.emotion_prompts import Asking, Concept
from circuits.emotion_trial import (
    CIRCUIT_STRENGTHS,
    STEERING_STRENGTHS,
    Harness,
    Trial,
    untouched,
)
from patching.capture import Prompts, capture
from tasks.errors import MethodError, ModelError
from tasks.stories import stories
from tasks.tokenize import encode, pad_id

if TYPE_CHECKING:
    import pandas as pd

    from graphs import CircuitGraph
    from patching.model import Model

CHECKED = 8
TUNING_GROUPS = 6
STORIES = 40
OTHER_PROMPTS = 60


@dataclass(frozen=True, slots=True)
class Settings:
    """How components are found and tried. `groups` are of discovery, `tests` of test prompts."""

    groups: int = 48
    tests: int = 40
    new_tokens: int = 12
    neurons: int | None = None
    heads: int | None = None
    threshold: float = 0.9
    after_norm: bool = False
    positions: str = "last"
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        counts = {"groups": self.groups, "tests": self.tests, "new tokens": self.new_tokens}
        counts["batch size"] = self.batch_size
        faults = [
            f"{name} is {value}; give at least 1" for name, value in counts.items() if value < 1
        ]
        if self.seed < 0:
            faults.append(f"seed is {self.seed}; give at least 0")
        if self.positions not in ("last", "all"):
            faults.append(f"positions is '{self.positions}'; give last or all")
        if not -1 <= self.threshold <= 1:
            faults.append(f"threshold is {self.threshold}; give a cosine from -1 to 1")
        if faults:
            raise MethodError("this study cannot run like this: " + "; ".join(faults))


@dataclass(frozen=True)
class Study:
    """Everything found about one concept in one model."""

    concept: Concept
    settings: Settings
    directions: Directions
    reference: Reference
    influence: Influence
    parts: Parts
    chosen: tuple[Components, ...]
    graphs: dict[str, CircuitGraph]
    whole: CircuitGraph
    trials: tuple[Trial, ...]
    facts: dict[str, Any]

    def to_frame(self) -> pd.DataFrame:
        """One row per way of control: share of replies that show the label, in all and by label."""
        from circuits.emotion_text import trials_frame

        return trials_frame(self.facts["trials"])

    def __repr__(self) -> str:
        return f"Study({self.concept.name}: {len(self.trials)} ways of control, {self.whole!r})"

    def _repr_html_(self) -> str:
        from circuits.emotion_plot import study_html

        return study_html(self)


def study(
    model: Model,
    concept: Concept,
    settings: Settings = Settings(),
    progress: Progress | None = None,
    name: str = "",
) -> Study:
    """Directions, components, influence, circuit and control of a concept in an opened model.

    Raises:
        CircuitsError: before the long part starts, where the model or a setting does not fit.
    """
    if model.tokenizer is None:
        raise ModelError("the prompts are text and this model has no tokenizer; give one")
    check_norm(model, settings.after_norm)
    budget = Budget.of(model.anatomy, settings.neurons, settings.heads)
    budget.check(model.anatomy)
    clock = Clock(progress)
    prompts = concept.take("discovery", settings.groups)
    asked = [p for p in prompts if p.label is not None]
    neutral = [p for p in prompts if p.label is None]
    with clock("replies to discovery prompts"):
        kept = _accepted(model, concept, asked, settings)
    groups = Groups.of([p.group for p in asked], [str(p.label) for p in asked], concept.labels)
    used = groups.where(kept)
    with clock("directions"):
        tokens = _encoded(model, asked)
        captured = capture(model, tokens, batch_size=settings.batch_size)
        directions = find_directions(captured, used)
        reference = find_reference(directions, settings.threshold)
    with clock("components"):
        parts = find_parts(model, captured, used, directions, settings.after_norm)
        closed_form = _check_closed_form(model, tokens, directions, settings.after_norm)
    with clock("influence"):
        influence = find_influence(model, _encoded(model, neutral), directions, reference)
    shares = [budget.shares(model.anatomy, row) for row in influence.mean]
    chosen = tuple(Components.strongest(parts, e, share) for e, share in enumerate(shares))
    whole, graphs = circuits_of(
        model, concept, parts, chosen, int(used.rows.size), settings.seed, name
    )
    window = range(reference.first, reference.last + 1)
    harness = Harness(
        model=model,
        concept=concept,
        directions=directions,
        chosen=chosen,
        layers=tuple(sorted({point // 2 for point in window})),
        positions=settings.positions,
        new_tokens=settings.new_tokens,
        batch_size=settings.batch_size,
    )
    with clock("control"):
        trials, control = _control(harness, neutral, settings)
    facts = {
        **_asked_for(model, concept, settings, budget, name),
        "discovery": _accounted(kept, groups, used),
        "components": dict(zip(concept.labels, shares, strict=True)),
        **_geometry(concept, directions, reference, influence),
        "closed_form": closed_form,
        "trials": [trial.to_json() for trial in trials],
        **control,
        "seconds": {step: round(value, 2) for step, value in clock.seconds.items()},
    }
    found = (directions, reference, influence, parts, chosen, graphs, whole, trials, facts)
    return Study(concept, settings, *found)


def _accounted(kept: np.ndarray, groups: Groups, used: Groups) -> dict[str, int]:
    return {
        "prompts": len(kept),
        "accepted": int(kept.sum()),
        "groups": len(groups.names),
        "groups_used": len(used.names),
    }


def _asked_for(
    model: Model, concept: Concept, settings: Settings, budget: Budget, name: str
) -> dict[str, Any]:
    return {
        "model": name,
        "model_hash": model.hash,
        "concept": concept.name,
        "labels": list(concept.labels),
        "settings": asdict(settings),
        "budget": asdict(budget),
    }


def _geometry(
    concept: Concept, directions: Directions, reference: Reference, influence: Influence
) -> dict[str, Any]:
    return {
        "reference": {
            "from": directions.points[reference.first],
            "to": directions.points[reference.last],
            "least_adjacent_cosine": reference.threshold,
            "threshold_reached": reference.reached,
        },
        "adjacent_cosines": directions.adjacent.tolist(),
        "influence": {
            label: {"mean": influence.mean[e].tolist(), "limit": influence.gradient[e].tolist()}
            for e, label in enumerate(concept.labels)
        },
        "influence_disagreement": dict(
            zip(concept.labels, influence.disagreement.tolist(), strict=True)
        ),
    }


def _encoded(model: Model, prompts: list[Asking]) -> Prompts:
    rows = [encode(model.tokenizer, prompt.text) for prompt in prompts]
    return Prompts.of(rows, pad_id(model.tokenizer))


def _accepted(
    model: Model, concept: Concept, asked: list[Asking], settings: Settings
) -> np.ndarray:
    from circuits.emotion_control import replies

    texts = [prompt.text for prompt in asked]
    found = replies(model, texts, settings.new_tokens, batch_size=settings.batch_size)
    hits = [concept.judged(r.text) == p.label for r, p in zip(found, asked, strict=True)]
    return np.array(hits)


def _check_closed_form(
    model: Model, prompts: Prompts, directions: Directions, after_norm: bool
) -> dict[str, float]:
    """Closed-form head scores against really silencing heads, on a few prompts, with times."""
    import torch

    vectors = torch.tensor(directions.at("resid_mid")[0], dtype=model.dtype, device=model.device)
    part = prompts[:CHECKED]
    times = [time.process_time()]
    captured = capture(model, part)
    times.append(time.process_time())
    fast = head_scores(model, captured, vectors, after_norm)
    times.append(time.process_time())
    slow = ablated_head_scores(model, part, vectors, after_norm)
    times.append(time.process_time())
    forward, closed, ablated = np.diff(times).tolist()
    return {
        "prompts": len(part),
        "largest_difference": float((fast - slow).abs().max()),
        "seconds_forward": forward,
        "seconds_closed_form": closed,
        "seconds_ablation": ablated,
    }


def _control(
    harness: Harness, tuning: list[Asking], settings: Settings
) -> tuple[tuple[Trial, ...], dict[str, Any]]:
    rng = np.random.default_rng(settings.seed)
    few = [tuning[i] for i in rng.permutation(len(tuning))[:TUNING_GROUPS]]
    push = harness.best_strength(few, harness.enhanced, CIRCUIT_STRENGTHS)
    shove = harness.best_strength(few, harness.steered, STEERING_STRENGTHS)
    anatomy = harness.model.anatomy
    others = [c.random_others(anatomy, settings.seed + e) for e, c in enumerate(harness.chosen)]
    test = harness.concept.take("test", settings.tests)
    trials = tuple(
        harness.try_out(name, test, make, asked)
        for name, make, asked in (
            ("no control, neutral prompt", untouched, False),
            ("prompting", untouched, True),
            ("circuit", harness.enhanced(push), False),
            ("steering", harness.steered(shove), False),
            ("random components", harness.enhanced(push, others), False),
            ("prompting, circuit ablated", harness.silenced(), True),
            ("prompting, random components ablated", harness.silenced(others), True),
        )
    )
    everywhere = Harness(**{**_fields(harness), "positions": "all"})
    makes = {
        "no control": untouched,
        "circuit": everywhere.enhanced(push),
        "steering": everywhere.steered(shove),
        "circuit ablated": everywhere.silenced(),
        "random components ablated": everywhere.silenced(others),
    }
    texts = stories(STORIES, settings.seed)
    side = {"perplexity": harness.perplexities(texts, makes)}
    at_last = {
        "no control": untouched,
        "circuit": harness.enhanced(push),
        "steering": harness.steered(shove),
        "circuit ablated": harness.silenced(),
        "random components ablated": harness.silenced(others),
    }
    tasks_told = harness.other_tasks(at_last, OTHER_PROMPTS, settings.seed)
    strengths = {"circuit": push, "steering": shove, "steered_layers": list(harness.layers)}
    return trials, {"strengths": strengths, "side_effects": {**side, "other_tasks": tasks_told}}


def _fields(harness: Harness) -> dict[str, Any]:
    return {name: getattr(harness, name) for name in Harness.__dataclass_fields__}
