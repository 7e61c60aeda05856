"""The published edit, which writes each question's right letter into the model: a diagnosis only.

Li & Gao (arXiv 2405.03205, equation 8) change one value vector by
``- lambda1 * W_U[A] + lambda2 * W_U[gold]`` and measure questions that were answered 'A' wrongly.
The right letter of the question at hand is in the edit, so nothing here is a mitigation. Beside the
published measure stand what the paper leaves out: questions whose answer is A, one letter written
in for all questions (which is what an edit that is saved would be), no letter written in, and a
value vector that does not speak for A.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from circuits.edits.edit import add
from circuits.edits.live import editing
from circuits.results.intervals import Estimate
from circuits.studies.bias.answers import answer, start_at
from circuits.studies.bias.items import Items
from circuits.studies.bias.localise import Bias
from circuits.studies.bias.start import Start
from patching.model import Model
from patching.progress import Progress
from patching.sites import parse_site
from tasks.questions import LETTERS

LAMBDAS = (1.0, 8.0)


@dataclass(frozen=True)
class PaperEdit:
    """What the published edit does, on one value vector.

    vector         the value vector that passes the published test on the largest share of prompts
    found          that share
    other          the value vector of the same layer that points away from A most
    anchored       accuracy on questions answered 'A' wrongly before (0 by construction then), each
                   with its own letter written in: the published measure
    gold_a         accuracy on questions whose right letter is A, with their own letter written in
    every          accuracy on all questions, each with its own letter written in
    suppressed     the published measure with lambda2 = 0: A taken off, no letter written in
    elsewhere      the published measure on the other vector
    fixed          for one letter written in for all questions: accuracy, accuracy where A is right,
                   and the share of the questions answered with that letter
    """

    vector: str
    found: float
    other: str
    lambdas: tuple[float, float]
    anchored: Estimate | None
    gold_a: Estimate
    every: Estimate
    suppressed: Estimate | None
    elsewhere: Estimate | None
    fixed: Mapping[str, tuple[Estimate, Estimate, Estimate]]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        names = ("accuracy", "accuracy, gold A", "share answered so")
        measured = {
            "accuracy, answered A wrongly before": self.anchored,
            "accuracy, gold A": self.gold_a,
            "accuracy, all questions": self.every,
            "answered A wrongly before, lambda2 = 0": self.suppressed,
            "answered A wrongly before, other vector": self.elsewhere,
        }
        return {
            "uses_answer": True,
            "vector": self.vector,
            "passes_published_test": self.found,
            "other_vector": self.other,
            "lambda1": self.lambdas[0],
            "lambda2": self.lambdas[1],
            "own letter": {name: value and value.to_json() for name, value in measured.items()},
            "one letter for all": {
                letter: {n: v.to_json() for n, v in zip(names, values, strict=True)}
                for letter, values in self.fixed.items()
            },
        }


def paper_edit(
    model: Model,
    items: Items,
    bias: Bias,
    before: Int[np.ndarray, " n"],
    lambdas: tuple[float, float] = LAMBDAS,
    progress: Progress | None = None,
) -> PaperEdit:
    """Edit the value vector that the published test finds, for every letter written in.

    ``before`` are the predictions of the model as it is.
    """
    part = max(bias.neurons, key=lambda part: (part.found, part.gap))
    layer = part.name.split(".")[0]
    near = [other for other in bias.neurons if other.name.split(".")[0] == layer]
    other = min(near, key=lambda part: part.gap)
    gold, k = items.gold, items.n_options
    wrong = np.flatnonzero((before == 0) & (gold != 0))

    def anchored(hits: np.ndarray) -> Estimate | None:
        return Estimate.mean(hits[wrong]) if len(wrong) else None

    def own(tops: np.ndarray) -> np.ndarray:
        hits: np.ndarray = tops[gold, np.arange(len(gold))] == gold
        return hits

    trial = _Trial(model, items, start_at(model, items, parse_site(part.name).layer), progress)
    tops = trial.each(part.name, lambdas)
    none = trial.top(part.name, {items.names[0]: -lambdas[0]})
    fixed = {
        LETTERS[i]: (
            Estimate.mean(tops[i] == gold),
            Estimate.mean((tops[i] == gold)[gold == 0]),
            Estimate.mean(tops[i] == i),
        )
        for i in range(k)
    }
    return PaperEdit(
        part.name,
        part.found,
        other.name,
        lambdas,
        anchored(own(tops)),
        Estimate.mean(own(tops)[gold == 0]),
        Estimate.mean(own(tops)),
        anchored(none == gold),
        anchored(own(trial.each(other.name, lambdas))),
        fixed,
    )


@dataclass
class _Trial:
    """Predictions under one edit after the other, from the layer on that they change."""

    model: Model
    items: Items
    start: Start
    progress: Progress | None
    done: int = 0

    def each(self, neuron: str, lambdas: tuple[float, float]) -> Int[np.ndarray, "k n"]:
        """With each letter written in."""
        tops, first = [], self.items.names[0]
        for wanted in self.items.names:
            weights = {first: -lambdas[0]}
            weights[wanted] = weights.get(wanted, 0.0) + lambdas[1]
            tops.append(self.top(neuron, weights))
        return np.stack(tops)

    def top(self, neuron: str, weights: Mapping[str, float]) -> Int[np.ndarray, " n"]:
        """With some letters' directions added."""
        if self.progress:
            self.progress(self.done, 2 * self.items.n_options + 1, "the published edit")
        self.done += 1
        with editing(self.model, add(neuron, weights)):
            return answer(self.model, self.items, self.start).top
