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
from circuits.studies.bias.localise import Bias, BiasedPart
from circuits.studies.bias.start import Start
from patching.model import Model
from patching.progress import Count, Progress
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


def published_vector(bias: Bias) -> BiasedPart:
    """The value vector that passes the published test on most prompts."""
    return max(bias.neurons, key=lambda part: (part.found, part.gap))


def paper_edit(
    model: Model,
    items: Items,
    bias: Bias,
    before: Int[np.ndarray, " n"],
    lambdas: tuple[float, float] = LAMBDAS,
    progress: Progress | None = None,
    start: Start | None = None,
) -> PaperEdit:
    """Edit the value vector that the published test finds, for every letter written in.

    ``before`` are the predictions of the model as it is, ``start`` is where the questions enter
    the vector's block.
    """
    part = published_vector(bias)
    layer = part.name.split(".")[0]
    near = [other for other in bias.neurons if other.name.split(".")[0] == layer]
    other = min(near, key=lambda part: part.gap)
    gold, k = items.gold, items.n_options
    wrong = np.flatnonzero((before == 0) & (gold != 0))

    def anchored(hits: np.ndarray) -> Estimate | None:
        return Estimate.mean(hits) if len(wrong) else None

    start = start or start_at(model, items, parse_site(part.name).layer)
    trial = _Trial(model, items, start, lambdas, Count(progress, 2 * k, "the published edit"))
    tops = np.stack([trial.top(part.name, letter) for letter in range(k)])
    own = tops[gold, np.arange(len(gold))] == gold
    none = trial.top(part.name, None, wrong) == gold[wrong]
    elsewhere = [
        trial.top(other.name, letter, wrong[gold[wrong] == letter]) == letter
        for letter in range(1, k)
    ]
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
        anchored(own[wrong]),
        Estimate.mean(own[gold == 0]),
        Estimate.mean(own),
        anchored(none),
        anchored(np.concatenate(elsewhere)),
        fixed,
    )


@dataclass(frozen=True)
class _Trial:
    """Predictions under one edit after the other, from the layer on that they change."""

    model: Model
    items: Items
    start: Start
    lambdas: tuple[float, float]
    count: Count

    def top(
        self, neuron: str, letter: int | None, rows: Int[np.ndarray, " n"] | None = None
    ) -> Int[np.ndarray, " n"]:
        """With A's direction taken off and a letter's written in, of all questions or of some."""
        names, items, start = self.items.names, self.items, self.start
        weights = {names[0]: -self.lambdas[0]}
        if letter is not None:
            weights[names[letter]] = weights.get(names[letter], 0.0) + self.lambdas[1]
        if rows is not None:
            items, start = items[rows], start.only(self.model, rows)
        with editing(self.model, add(neuron, weights)):
            top = answer(self.model, items, start).top
        self.count()
        return top
