"""Recipes against a letter bias: each proposes permanent edits that need no right answers.

Strengths are in one unit: at 1, an edit takes out what the letters' prior says, to first order and
with the final norm's scale held fixed. All of them act on value vectors of one layer or on heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from circuits.edits.edit import AnyEdit, Circuit, Direction, RankOne, add, project, scale
from circuits.studies.bias.answers import Answers, start_at
from circuits.studies.bias.items import Items
from circuits.studies.bias.other_tasks import Stops
from circuits.studies.bias.settings import RECIPES
from patching.directions import default_basis, unembedding
from patching.forward import Record
from patching.in_use import undisturbed
from patching.model import Model
from patching.nodes.heads import head_writes
from patching.sites import Site, head, parse_site
from patching.weights import value_vectors
from tasks.bias_measures import letter_prior

COUNTS = (1, 4, 16)
STRENGTHS = (0.5, 0.75, 1.0, 1.25, 1.5)
STRONGER = (2.0, 3.0)
"""Also tried of a change of a whole layer."""

RIDGE = 1e-2


@dataclass(frozen=True)
class Candidate:
    """An edit proposed by a recipe: ``size`` vectors or heads, ``strength`` in the unit above."""

    recipe: str
    edits: tuple[AnyEdit, ...]
    size: int
    strength: float
    layer: int = -1

    @property
    def note(self) -> str:
        """Recipe and strength, in words."""
        return f"{self.recipe}, strength {self.strength:g}"

    @property
    def first_layer(self) -> int:
        """The first layer whose weights change."""
        return min((parse_site(place).layer for place in self.places), default=0)

    @property
    def places(self) -> tuple[str, ...]:
        """Where the edits act."""
        return tuple(edit.site for edit in self.edits if not isinstance(edit, Circuit))


@dataclass(frozen=True)
class Evidence:
    """What recipes look at: the bias of the letters, and what neurons do where letters follow.

    All of it is small and lies in the CPU's memory, wherever the model does.

    prior      mean log-probability of each letter over balanced questions, minus its mean
    post       neuron activations of each layer at the last position of the questions
    norms      the final norm's mean scale there
    keys       second moment of a layer's neuron activations on other text, of the layers asked for
    spoken     what each head adds to each letter's logit there, the final norm's scale held fixed
    logits     the letters' logits
    """

    letters: tuple[str, ...]
    basis: str
    prior: Float[np.ndarray, " k"]
    post: tuple[Float[Tensor, "n m"], ...]
    norms: float
    keys: Mapping[int, Float[Tensor, "m m"]]
    directions: Float[Tensor, "k d"]
    spoken: Float[Tensor, "n layer h k"]
    logits: Float[np.ndarray, "n k"]


class _AtEnd(Record):
    """Keeps values at the last position only."""

    @override
    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        if kind in self.kinds:
            self.values[kind, layer] = value[:, -1].clone() if value.ndim > 2 else value
        return value


@torch.no_grad()
def gather(
    model: Model,
    items: Items,
    answers: Answers,
    stops: Stops,
    moments: Sequence[int] | None = None,
) -> Evidence:
    """Look at the model on questions in all orders, and on other text, given by where it stops.

    ``moments`` are the layers whose second moments are wanted; by default those of all.
    """
    layers = range(model.anatomy.n_layers)
    post: list[list[Tensor]] = [[] for _ in layers]
    norms, spoken = [], []
    basis = default_basis(model)
    directions = unembedding(model, basis)[torch.tensor(items.letters)]
    start = start_at(model, items, 0)
    for chunk in start.chunks:
        seen = _AtEnd(["mlp_post", "final_in", "z", "attn_raw"])
        chunk.logits(model, 0, seen)
        for layer in layers:
            post[layer].append(seen.values["mlp_post", layer].float())
        scales = model.final_norm.scale(seen.values["final_in", len(layers)])
        norms.append(scales)
        said = [_head_writes(model, seen, layer) @ directions.T for layer in layers]
        spoken.append(torch.stack(said, dim=1) / scales[:, None, None])
    prior, order = letter_prior(answers.letters), start.order
    return Evidence(
        letters=items.names,
        basis=basis,
        prior=prior - prior.mean(),
        post=tuple(torch.cat(parts).cpu()[order] for parts in post),
        norms=float(torch.cat(norms).mean()),
        keys=_second_moments(model, stops, layers if moments is None else moments),
        directions=directions.cpu(),
        spoken=torch.cat(spoken).cpu()[order],
        logits=answers.letters,
    )


def _head_writes(model: Model, seen: Record, layer: int) -> Float[Tensor, "n h d"]:
    """What each head of a layer writes at the last position."""
    z, raw = (seen.values[kind, layer][:, None] for kind in ("z", "attn_raw"))
    return head_writes(model.blocks[layer], z, raw)[:, :, 0].float()


@undisturbed
def _second_moments(model: Model, stops: Stops, layers: Sequence[int]) -> dict[int, Tensor]:
    """E[k k^T] of some layers over plain text and the prompts of other tasks."""
    moments = {}
    for layer in layers:
        total, count = torch.zeros(model.anatomy.d_mlp, model.anatomy.d_mlp), 0
        for chunk in (chunk for start in stops.at(layer).every for chunk in start.chunks):
            seen = Record(["mlp_post"])
            chunk.through(model.blocks[layer], seen)
            keys = seen.values["mlp_post", layer][chunk.real].float()
            total += (keys.T @ keys).cpu()
            count += len(keys)
        moments[layer] = total / max(count, 1)
    return moments


def candidates(
    model: Model,
    evidence: Evidence,
    layers: Sequence[int],
    which: Sequence[Site] | None = None,
    recipes: Sequence[str] = RECIPES,
) -> Iterator[Candidate]:
    """The proposals of the label-free recipes asked for, for some layers and some heads.

    ``which`` are the heads to scale; by default all of them.
    """
    for layer in layers:
        if "least squares" in recipes:
            yield from least_squares(evidence, layer)
        for candidate in _of_neurons(model, evidence, layer):
            if candidate.recipe in recipes:
                yield candidate
    if "scale head" in recipes:
        yield from heads(every_head(model) if which is None else which)


def _of_neurons(model: Model, evidence: Evidence, layer: int) -> Iterator[Candidate]:
    """What is proposed for the value vectors that push A most."""
    ranked = rank_neurons(model, evidence, layer)
    for count in COUNTS:
        chosen = ranked[: min(count, len(ranked))]
        names = [f"m{layer}.n{neuron}" for neuron in chosen]
        yield Candidate("zero", tuple(scale(n, 0.0) for n in names), count, 1.0, layer)
        for strength in STRENGTHS:
            yield from _moved(evidence, layer, chosen, strength)


def rank_neurons(model: Model, evidence: Evidence, layer: int) -> list[int]:
    """Neurons by how much they push A above the mean letter where letters follow, most first."""
    toward = evidence.directions[0] - evidence.directions.mean(0)
    pushed = evidence.post[layer].mean(0) * (value_vectors(model, layer).float().cpu() @ toward)
    order: list[int] = pushed.argsort(descending=True).tolist()
    return order


def _moved(
    evidence: Evidence, layer: int, chosen: Sequence[int], strength: float
) -> Iterator[Candidate]:
    """Suppress A; move A to the mean of the letters; project A minus mean letter out."""
    names, letters = [f"m{layer}.n{neuron}" for neuron in chosen], evidence.letters
    size = evidence.post[layer].mean(0)[list(chosen)]
    toward = evidence.directions[0] - evidence.directions.mean(0)
    excess = float(evidence.prior[0] - evidence.prior[1:].mean()) * evidence.norms
    others = (len(letters) - 1) / len(letters)
    # Per vector, so that together they take the excess out: sum_n k_n x_n d.toward = excess.
    unit = others * excess / float(size.square().sum().clamp(min=1e-9))
    for recipe, weights in (
        ("suppress A", {letters[0]: -1.0}),
        ("A to mean", {x: (1 / len(letters)) - (x == letters[0]) for x in letters}),
    ):
        direction = evidence.directions.T @ torch.tensor([weights.get(x, 0.0) for x in letters])
        along = float(-(direction @ toward)) or 1.0
        edits = tuple(
            add(name, weights, strength * unit * float(k) / along)
            for name, k in zip(names, size, strict=True)
        )
        yield Candidate(recipe, edits, len(chosen), strength, layer)
    mean = {x: (x == letters[0]) - 1 / len(letters) for x in letters}
    out = tuple(project(name, mean, strength) for name in names)
    yield Candidate("project out", out, len(chosen), strength, layer)


def least_squares(evidence: Evidence, layer: int) -> Iterator[Candidate]:
    """Take the prior out where letters follow, moving what other keys bring out least.

    ``Delta = u (x) d`` with ``u = C^-1 k / (k^T C^-1 k)``, ``k`` the mean key where letters follow
    and ``C`` the second moment of other text's keys (as in ROME, arXiv 2202.05262), and ``d`` the
    shortest direction that lowers each letter's logit by its prior.
    """
    key, moment = evidence.post[layer].mean(0), evidence.keys[layer]
    ridge = RIDGE * moment.diagonal().mean().clamp(min=1e-8) * torch.eye(len(key))
    solved = torch.linalg.solve(moment + ridge.to(moment), key)
    keys = solved / (key @ solved)
    gram = evidence.directions @ evidence.directions.T
    wanted = torch.tensor(-evidence.prior, dtype=gram.dtype) * evidence.norms
    weights = torch.linalg.lstsq(gram, wanted.to(gram.device)).solution
    toward = Direction(tokens=dict(zip(evidence.letters, weights.tolist(), strict=True)))
    for strength in (*STRENGTHS, *STRONGER):
        edit = RankOne(
            site=f"m{layer}", keys=tuple(keys.tolist()), direction=toward, strength=strength
        )
        yield Candidate("least squares", (edit,), 1, strength, layer)


def every_head(model: Model) -> list[Site]:
    """All heads, layer by layer."""
    a = model.anatomy
    return [head(layer, unit) for layer, unit in product(range(a.n_layers), range(a.n_heads))]


def heads(which: Sequence[Site]) -> Iterator[Candidate]:
    """Scale single heads, down to nothing or to a half."""
    for site, factor in product(which, (0.0, 0.5)):
        edit = scale(site.name, factor)
        yield Candidate("scale head", (edit,), 1, 1 - factor, site.layer)
