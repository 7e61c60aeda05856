"""What a model answers to multiple-choice questions, and measures of its bias with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from circuits.studies.bias.items import Items
from circuits.studies.bias.start import Start
from patching.model import Model
from tasks import bias_measures as bias


@dataclass(frozen=True)
class Answers:
    """Logits of the letters, and whether the most likely token of all is one of them.

    letters   logits of the option letters
    top       index of the letter that is the most likely token of the vocabulary, -1 for none
    """

    letters: Float[np.ndarray, "n k"]
    top: Int[np.ndarray, " n"]
    mass: Float[np.ndarray, " n"]

    def __getitem__(self, rows: slice | np.ndarray) -> Answers:
        return Answers(self.letters[rows], self.top[rows], self.mass[rows])

    @property
    def best(self) -> Int[np.ndarray, " n"]:
        """The most likely letter, whatever other tokens do."""
        letters: Int[np.ndarray, " n"] = self.letters.argmax(axis=1)
        return letters

    @property
    def probabilities(self) -> Float[np.ndarray, "n k"]:
        """Probabilities of the letters among all tokens."""
        shifted = np.exp(self.letters - self.letters.max(axis=1, keepdims=True))
        shares: Float[np.ndarray, "n k"] = shifted / shifted.sum(axis=1, keepdims=True)
        return shares * self.mass[:, None]


def start_at(model: Model, items: Items, layer: int) -> Start:
    """Run the blocks before ``layer`` once for all."""
    return Start.of(model, items.tokens, items.mask, items.orders).at(model, layer)


@torch.no_grad()
def answer(model: Model, items: Items, start: Start | None = None) -> Answers:
    """The model's answers, without looking at the right ones.

    ``start`` is where these questions enter a block before which nothing has changed.
    """
    n = len(items)
    given = Answers(np.zeros((n, items.n_options)), np.zeros(n, int), np.zeros(n))
    ids = torch.tensor(items.letters, device=model.device)
    for rows, at_the_end in (start or start_at(model, items, 0)).logits(model):
        logits = at_the_end.double()
        given.letters[rows] = logits[:, ids].cpu().numpy()
        given.top[rows] = bias.letter_predictions(logits.cpu().numpy(), items.letters)
        given.mass[rows] = logits.softmax(-1)[:, ids].sum(-1).cpu().numpy()
    return given


Measure = Callable[[np.ndarray], float]


def measures(
    predicted: Int[np.ndarray, " n"], gold: Int[np.ndarray, " n"], n_options: int
) -> Mapping[str, Measure]:
    """The report card's measures of some predictions (-1: no letter)."""

    def of(function: Callable[..., float], *more: object) -> Measure:
        return lambda rows: function(predicted[rows], gold[rows], *more)

    def share_of_a(rows: np.ndarray) -> float:
        others = gold[rows] != 0
        return float((predicted[rows][others] == 0).mean()) if others.any() else float("nan")

    by_name: dict[str, Measure] = {
        "accuracy": of(bias.accuracy),
        "A share, gold not A": share_of_a,
        "no letter": lambda rows: float((predicted[rows] == bias.NO_LETTER).mean()),
        "RStd": of(bias.rstd, n_options),
        "CKLD": of(bias.ckld, n_options),
    }
    for i in range(n_options):
        letter = "ABCDE"[i]

        def recall(rows: np.ndarray, i: int = i) -> float:
            mine = gold[rows] == i
            return float((predicted[rows][mine] == i).mean()) if mine.any() else float("nan")

        by_name[f"accuracy, gold {letter}"] = recall
    return by_name


def agreement(chosen: Int[np.ndarray, "*draws items orders"]) -> Float[np.ndarray, "*draws"]:
    """Mean share of the orders of a question in which its most chosen option is chosen.

    Needs no right answers: a model that knows, or that always chooses the same option for any
    other reason than its letter, has 1; one that always says A has 1 / orders.
    """
    k = chosen.shape[-1]
    counts = np.stack([(chosen == i).sum(axis=-1) for i in range(k)])
    return (counts.max(axis=0) / k).mean(axis=-1)


def imbalance(
    predicted: Int[np.ndarray, "*draws n"], n_options: int
) -> Float[np.ndarray, "*draws"]:
    """Total variation distance of the predicted letters' shares from equal shares."""
    shares = np.stack([(predicted == i).mean(axis=-1) for i in range(n_options)])
    return 0.5 * (np.abs(shares - 1 / n_options).sum(axis=0) + (predicted < 0).mean(axis=-1))
