"""The conditions of answering that are compared: as is, rivals, recipes at their best, controls.

Every way says what it does, which edits it makes and how it was chosen, so that a row that equals
another one can be understood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from circuits.edits.edit import AnyEdit
from circuits.edits.live import editing
from circuits.studies.bias.controls import aimed_elsewhere, random_changes
from circuits.studies.bias.mitigate import Mitigation
from circuits.studies.bias.trials import Search, Trial
from circuits.studies.bias.unibias import BOTH, HEADS, VECTORS
from patching.model import Model
from patching.weights import changed_weights

NO_EDIT, RIVAL, RANDOM, ELSEWHERE = "no edit", "PriDe (inference time)", "random", "aimed at B"

CLAIMS = {
    NO_EDIT: "the model as it is",
    RIVAL: "the letters' prior of the training questions taken off the logits of every question; "
    "nothing is changed in the model (Zheng et al., arXiv 2309.03882)",
    "least squares": "one rank-one change of an MLP's output matrix that takes the letters' prior "
    "out and moves other text least (as ROME, arXiv 2202.05262)",
    "zero": "value vectors set to zero",
    "suppress A": "A's direction taken off value vectors",
    "A to mean": "value vectors moved from A to the mean of the letters",
    "project out": "the direction A minus mean letter projected out of value vectors; at a "
    "strength above 1 it is turned round",
    "scale head": "one head scaled down",
    VECTORS: "value vectors that speak of letters unevenly and steadily set to zero (UniBias, "
    "arXiv 2405.20612)",
    HEADS: "the same of heads",
    BOTH: "the best set of each taken out together",
    RANDOM: "control: the chosen edit's change of weights, turned in a random direction",
    ELSEWHERE: "control: the chosen edit with A and B swapped in its directions; what works on "
    "A should not work so",
}


@dataclass(frozen=True)
class Condition:
    """One way of answering: a context in which the model is changed, and how answers are read.

    ``first_layer`` is the first one that it changes; None where it changes none. ``tried`` is the
    candidate behind it, ``of`` how many of its recipe there were.
    """

    name: str
    edited: Callable[[], AbstractContextManager[Any]]
    kind: str
    first_layer: int | None = None
    tried: Trial | None = None
    of: int = 0

    @property
    def without_prior(self) -> bool:
        """Whether the letters' prior is taken off the logits."""
        return self.name == RIVAL

    def about(self) -> dict[str, Any]:
        """Plain values that say what it is, for a file."""
        about = {"condition": self.name, "kind": self.kind, "claim": CLAIMS[self.name]}
        if self.tried is None:
            return about
        candidate = self.tried.candidate
        return about | {
            "candidates": self.of,
            "strength": candidate.strength,
            "places": list(candidate.places),
            "score": self.tried.score,
            "gain": self.tried.gain.to_json(),
            "verdict": self.tried.verdict,
        }


def all_conditions(model: Model, mitigation: Mitigation) -> list[Condition]:
    """As is, the rival, every recipe's best candidate, and controls of the chosen edit."""
    basis = mitigation.evidence.basis

    def made(edits: Sequence[AnyEdit]) -> Callable[[], AbstractContextManager[Any]]:
        return lambda: editing(model, edits, basis)

    conditions = [
        Condition(NO_EDIT, nullcontext, "baseline"),
        Condition(RIVAL, nullcontext, "rival"),
    ]
    for tried, of in _best(mitigation.search):
        candidate = tried.candidate
        layer, edited = candidate.first_layer, made(candidate.edits)
        conditions.append(Condition(candidate.recipe, edited, "recipe", layer, tried, of))
    best = mitigation.search.best
    if best is None:
        return conditions
    edits, layer = best.candidate.edits, best.candidate.first_layer
    changes = random_changes(model, edits, basis, mitigation.settings.seed)
    conditions.append(Condition(RANDOM, lambda: changed_weights(model, changes), "control", layer))
    elsewhere = aimed_elsewhere(edits, mitigation.evidence.letters)
    if elsewhere != edits:
        conditions.append(Condition(ELSEWHERE, made(elsewhere), "control", layer))
    return conditions


def _best(search: Search) -> list[tuple[Trial, int]]:
    """Every recipe's best candidate, and how many there were."""
    best = [(search.best_of(recipe), len(search.of(recipe))) for recipe in search.recipes]
    return [(tried, of) for tried, of in best if tried is not None]
