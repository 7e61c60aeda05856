"""UniBias: the value vectors and heads that speak of letters unevenly and always the same way.

Zhou et al., arXiv 2405.20612, take out feed-forward vectors and attention heads that pass three
tests, with thresholds found on a small support set; here the support set is the training questions
in every order of their options, which is balanced without knowing an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import torch
from torch import Tensor

from circuits.edits.edit import scale
from circuits.studies.bias.items import Items
from circuits.studies.bias.recipes import Candidate, Evidence
from patching.model import Model
from patching.weights import value_vectors

VECTORS, HEADS, BOTH = "unibias", "unibias heads", "unibias vectors and heads"

PROBABILITY = (0.01, 0.05, 0.1)
BIAS = (0.1, 0.5, 1.0)
VARIATION = (0.15, 0.5, 1.0)

SHARE = (0.02, 0.1, 0.2)
HEAD_BIAS = (0.1, 0.3, 0.5)
HEAD_VARIATION = (0.1, 0.25, 0.5)

SETS = len(SHARE) * len(HEAD_BIAS) * len(HEAD_VARIATION)
"""How many sets of each kind there are at most."""


def unibias(
    model: Model, items: Items, evidence: Evidence, recipes: Sequence[str] = (VECTORS, HEADS)
) -> list[Candidate]:
    """Sets of value vectors, and sets of heads, to zero: of the recipes asked for."""
    candidates: list[Candidate] = []
    if VECTORS in recipes:
        candidates += _candidates(VECTORS, vector_sets(model, items, evidence))
    if HEADS in recipes:
        candidates += _candidates(HEADS, head_sets(evidence))
    return candidates


def both(vectors: Candidate, heads: Candidate) -> Candidate:
    """The best set of each kind taken out together, as the paper does."""
    size = vectors.size + heads.size
    return Candidate(BOTH, (*vectors.edits, *heads.edits), size, 1.0)


def _candidates(recipe: str, sets: Iterable[tuple[str, ...]]) -> list[Candidate]:
    return [
        Candidate(recipe, tuple(scale(name, 0.0) for name in names), len(names), 1.0)
        for names in dict.fromkeys(sets)
        if names
    ]


@torch.no_grad()
def vector_sets(model: Model, items: Items, evidence: Evidence) -> list[tuple[str, ...]]:
    """Value vectors of the upper half of the layers that pass the three tests, per threshold.

    A vector is chosen where it speaks of letters (their probability in its own unembedding), does
    so unevenly (mean |p - mean| / mean), and with a coefficient that varies little between
    questions (its coefficient of variation).
    """
    ids = torch.tensor(items.letters, device=model.device)
    measures: list[tuple[Sequence[str], Tensor, Tensor, Tensor]] = []
    for layer in range(model.anatomy.n_layers // 2, model.anatomy.n_layers):
        said = model.unembed(value_vectors(model, layer)).softmax(-1)[:, ids].cpu()
        post = evidence.post[layer]
        varies = post.std(0) / post.mean(0).abs().clamp(min=1e-9)
        names = [f"m{layer}.n{neuron}" for neuron in range(len(said))]
        measures.append((names, said.sum(1), _uneven(said), varies))
    return [_passing(measures, *tests) for tests in product(PROBABILITY, BIAS, VARIATION)]


def head_sets(evidence: Evidence) -> list[tuple[str, ...]]:
    """Heads of the upper half of the layers that pass the three tests, per threshold.

    A head is chosen where what it adds to the letters' logits is a fair share of those logits, is
    uneven (mean |x - mean| / |mean|), and varies little between questions.
    """
    spoken = evidence.spoken
    whole = abs(float(evidence.logits.sum(axis=1).mean())) or 1.0
    measures: list[tuple[Sequence[str], Tensor, Tensor, Tensor]] = []
    for layer in range(spoken.shape[1] // 2, spoken.shape[1]):
        said = spoken[:, layer]
        mean = said.mean(0)
        varies = (said.std(0) / mean.abs().clamp(min=1e-9)).mean(1)
        names = [f"a{layer}.h{head}" for head in range(len(mean))]
        measures.append((names, mean.sum(1).abs() / whole, _uneven(mean), varies))
    return [_passing(measures, *tests) for tests in product(SHARE, HEAD_BIAS, HEAD_VARIATION)]


def _uneven(said: Tensor) -> Tensor:
    mean = said.mean(1, keepdim=True)
    return (said - mean).abs().mean(1) / mean.abs()[:, 0].clamp(min=1e-12)


def _passing(
    measures: Iterable[tuple[Sequence[str], Tensor, Tensor, Tensor]],
    least: float,
    uneven: float,
    most: float,
) -> tuple[str, ...]:
    return tuple(
        names[i]
        for names, said, bias, varies in measures
        for i in ((said > least) & (bias > uneven) & (varies < most)).nonzero()[:, 0].tolist()
    )
