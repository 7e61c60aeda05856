"""The published edit, which writes each question's right letter into the model: a diagnosis only.

Li & Gao (arXiv 2405.03205, equation 8) change one value vector by
``- lambda1 * W_U[A] + lambda2 * W_U[gold]`` and measure questions that were answered 'A' wrongly.
The right letter of the question at hand is in the edit, so nothing here is a mitigation; what the
same edit does to questions whose answer is A, and what any fixed letter does, stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from circuits.bias.answers import Value, answer, bootstrap
from circuits.bias.items import Items
from circuits.bias.localise import GAP, Bias
from circuits.edits.edit import add
from circuits.edits.live import editing
from patching.model import Model
from tasks.questions import LETTERS

LAMBDAS = (1.0, 8.0)


@dataclass(frozen=True)
class PaperEdit:
    """What the published edit does, on one value vector.

    vector       the value vector, and whether it passes the published test (a gap above 4)
    anchored     accuracy on questions answered 'A' wrongly before (0 by construction then)
    gold_a       accuracy on questions whose right letter is A, with their own edit
    every        accuracy on all questions, each with its own edit
    fixed        accuracy on all questions with one letter written in for all of them
    """

    vector: str
    passes: bool
    lambdas: tuple[float, float]
    anchored: Value | None
    gold_a: Value
    every: Value
    fixed: dict[str, Value]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {
            "uses_answer": True,
            "vector": self.vector,
            "passes_published_test": self.passes,
            "lambda1": self.lambdas[0],
            "lambda2": self.lambdas[1],
            "accuracy, answered A wrongly before": self.anchored and self.anchored.to_json(),
            "accuracy, gold A": self.gold_a.to_json(),
            "accuracy, every question with its own letter written in": self.every.to_json(),
            "accuracy, one letter written in for all": {
                letter: value.to_json() for letter, value in self.fixed.items()
            },
        }


def paper_edit(
    model: Model,
    items: Items,
    bias: Bias,
    before: Int[np.ndarray, " n"],
    lambdas: tuple[float, float] = LAMBDAS,
) -> PaperEdit:
    """Edit the value vector with the largest gap and answer, for every letter written in."""
    part = max(bias.neurons, key=lambda part: part.gap)
    tops = np.stack([_tops(model, items, part.name, i, lambdas) for i in range(items.n_options)])
    gold = items.gold
    own = tops[gold, np.arange(len(gold))] == gold
    wrong = np.flatnonzero((before == 0) & (gold != 0))
    fixed = {LETTERS[i]: _share(tops[i] == gold) for i in range(items.n_options)}
    return PaperEdit(
        part.name,
        part.gap > GAP,
        lambdas,
        _share(own[wrong]) if len(wrong) else None,
        _share(own[gold == 0]),
        _share(own),
        fixed,
    )


def _tops(
    model: Model, items: Items, neuron: str, letter: int, lambdas: tuple[float, float]
) -> Int[np.ndarray, " n"]:
    wanted = items.names[letter]
    weights = {items.names[0]: -lambdas[0]}
    weights[wanted] = weights.get(wanted, 0.0) + lambdas[1]
    with editing(model, add(neuron, weights)):
        return answer(model, items).top


def _share(hits: np.ndarray) -> Value:
    return bootstrap(lambda rows: float(hits[rows].mean()), len(hits))
