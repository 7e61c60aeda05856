"""What a study's report says of how it was made and where directions and influence lie."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from circuits.directions import Directions, Groups, Reference
from circuits.studies.emotion.circuit import Budget
from circuits.studies.emotion.influence import Influence
from circuits.studies.emotion.prompts import Concept
from circuits.studies.emotion.settings import Settings

if TYPE_CHECKING:
    from patching.model import Model


def asked_for(
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


def accounted(kept: Bool[np.ndarray, " n"], groups: Groups, used: Groups) -> dict[str, int]:
    """How many discovery prompts and groups there are, and how many of them are used."""
    return {
        "prompts": len(kept),
        "accepted": int(kept.sum()),
        "groups": len(groups.names),
        "groups_used": len(used.names),
    }


def geometry_of(
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
