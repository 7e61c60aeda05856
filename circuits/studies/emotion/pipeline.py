"""The circuits with which a model shows what it is asked to show: found, assembled and driven.

After Wang et al. 2025, arXiv 2510.11328, for any labels whose prompts come in groups.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from circuits.clock import Clock, Progress
from circuits.directions import Directions, Groups, Reference, find_directions, find_reference
from circuits.results.report import Picture, Report, Reported
from circuits.studies.emotion.baselines import Baselines, compare
from circuits.studies.emotion.check import check_head_scores
from circuits.studies.emotion.circuit import Budget, Components, circuits_of
from circuits.studies.emotion.control import replies
from circuits.studies.emotion.influence import Influence, find_influence
from circuits.studies.emotion.parts import Parts, find_parts
from circuits.studies.emotion.probes import Readings, read_labels
from circuits.studies.emotion.prompts import Concept, EmotionPrompt
from circuits.studies.emotion.settings import LEAST_GROUPS, Settings
from circuits.studies.emotion.trial import Harness, Trial
from circuits.studies.emotion.verdict import claims
from patching.capture import Prompts, capture
from patching.sweep import Sweep
from patching.weights import check_neurons
from tasks.tokenize import pad_id

if TYPE_CHECKING:
    import pandas as pd

    from graphs import CircuitGraph
    from patching.model import Model


@dataclass(frozen=True)
class Study(Reported):
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
    readings: Readings
    trials: tuple[Trial, ...]
    results: dict[str, Any]

    def to_frame(self) -> pd.DataFrame:
        """One row per condition: share of replies that show the label, in all and by label."""
        from circuits.studies.emotion.text import trials_frame

        return trials_frame(self.results["trials"])

    def __repr__(self) -> str:
        return (
            f"Study({self.concept.name}: {len(self.trials)} conditions of control, {self.whole!r})"
        )

    def report(self) -> Report:
        """The pictures, what each method achieved, and which claims hold."""
        from circuits.studies.emotion.plot import control, geometry, layers
        from circuits.studies.emotion.text import summary

        return Report.of(
            Picture(lambda: geometry(self), "cosines between directions"),
            Picture(lambda: layers(self), "probes, stability and influence by layer"),
            Picture(lambda: control(self), "replies by condition of control"),
            *summary(self.results),
        )


def study(
    model: Model,
    concept: Concept,
    settings: Settings | None = None,
    progress: Progress | None = None,
    name: str = "",
) -> Study:
    """Directions, components, influence, circuit and control of a concept in an opened model.

    Raises:
        CircuitsError: before the long part starts, where the model or a setting does not fit.
    """
    settings = settings or Settings()
    check_neurons(model, "a circuit of emotions")
    if model.tokenizer is not None:
        concept = concept.put(model.tokenizer, settings.bos, settings.chat)
    settings.check(model, concept)
    budget = settings.budget(model.anatomy)
    clock = Clock(progress)
    prompts = concept.take("discovery", settings.groups)
    asking = [p for p in prompts if p.label is not None]
    neutral = [p for p in prompts if p.label is None]
    with clock("replies to discovery prompts"):
        kept = _accepted(model, concept, asking, settings, progress)
    groups = Groups.of([p.group for p in asking], [str(p.label) for p in asking], concept.labels)
    used = groups.where(kept, LEAST_GROUPS)
    with clock("directions"):
        tokens = _encoded(model, asking)
        captured = capture(model, tokens, batch_size=settings.batch_size)
        directions = find_directions(captured, used)
        reference = find_reference(directions, settings.threshold)
    with clock("probes"):
        sizes = settings.groups, settings.tests, settings.seed, settings.batch_size
        readings = read_labels(model, concept, *sizes)
    with clock("components"):
        parts = find_parts(model, captured, used, directions, settings.after_norm)
        closed_form = check_head_scores(model, tokens, directions, settings.after_norm)
    with clock("influence"):
        influence = find_influence(
            model, _encoded(model, neutral), directions, reference, batch_size=Sweep(64, progress)
        )
    shares = [budget.shares(model.anatomy, row) for row in influence.mean]
    chosen = tuple(Components.strongest(parts, e, share) for e, share in enumerate(shares))
    whole, graphs = circuits_of(
        model, concept, parts, chosen, int(used.rows.size), settings.seed, name
    )
    harness = _harness(model, concept, directions, reference, chosen, settings)
    with clock("control"):
        baselines = _baselines(concept, neutral, readings, settings)
        trials, control = compare(harness, baselines, progress)
    results = {
        **_settings_json(model, concept, settings, budget, name),
        "discovery": _counts(kept, groups, used),
        "components": dict(zip(concept.labels, shares, strict=True)),
        **_geometry(concept, directions, reference, influence),
        "probes": readings.to_json(),
        "closed_form": closed_form,
        "claims": [claim.to_json() for claim in claims(trials, settings.seed)],
        "trials": [trial.to_json() for trial in trials],
        **control,
        "seconds": {step: round(value, 2) for step, value in clock.seconds.items()},
    }
    rest = influence, parts, chosen, graphs, whole, readings, trials, results
    return Study(concept, settings, directions, reference, *rest)


def _harness(
    model: Model,
    concept: Concept,
    directions: Directions,
    reference: Reference,
    chosen: tuple[Components, ...],
    settings: Settings,
) -> Harness:
    window = range(reference.first, reference.last + 1)
    return Harness(
        model=model,
        concept=concept,
        directions=directions,
        chosen=chosen,
        layers=settings.layers or tuple(sorted({point // 2 for point in window})),
        positions=settings.positions,
        new_tokens=settings.new_tokens,
        batch_size=settings.batch_size,
        bos=settings.bos,
    )


def _baselines(
    concept: Concept, neutral: list[EmotionPrompt], readings: Readings, settings: Settings
) -> Baselines:
    order = np.random.default_rng(settings.seed).permutation(len(neutral))
    return Baselines(
        tuning=[neutral[i] for i in order[: settings.tuning]],
        tests=concept.take("test", settings.tests),
        vectors=readings.vectors(concept.labels),
        draws=settings.draws,
        seed=settings.seed,
    )


def _encoded(model: Model, prompts: list[EmotionPrompt]) -> Prompts:
    rows = [prompt.ids(model.tokenizer) for prompt in prompts]
    return Prompts.of(rows, pad_id(model.tokenizer))


def _accepted(
    model: Model,
    concept: Concept,
    asking: list[EmotionPrompt],
    settings: Settings,
    progress: Progress | None,
) -> Bool[np.ndarray, " n"]:
    options = Sweep(settings.batch_size, progress).counting(len(asking), "replies")
    made = replies(model, asking, settings.new_tokens, batch_size=options)
    return np.array([concept.judged(r.text) == p.label for r, p in zip(made, asking, strict=True)])


def _settings_json(
    model: Model, concept: Concept, settings: Settings, budget: Budget, name: str
) -> dict[str, Any]:
    """What was studied, and how."""
    return {
        "model": name,
        "model_hash": model.hash,
        "concept": concept.name,
        "labels": list(concept.labels),
        "settings": settings.to_json(),
        "budget": asdict(budget),
    }


def _counts(kept: Bool[np.ndarray, " n"], groups: Groups, used: Groups) -> dict[str, int]:
    """How many discovery prompts and groups there are, and how many of them are used."""
    return {
        "prompts": len(kept),
        "accepted": int(kept.sum()),
        "groups": len(groups.names),
        "groups_used": len(used.names),
    }


def _geometry(
    concept: Concept, directions: Directions, reference: Reference, influence: Influence
) -> dict[str, Any]:
    """Where directions are stable, and which sublayers move the end along them."""
    worst = influence.disagreement.tolist()
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
        "influence_disagreement": dict(zip(concept.labels, worst, strict=True)),
    }
