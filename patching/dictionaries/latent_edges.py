"""Edges between latents: how what one carries reaches the next, in units of the metric.

For a latent ``j`` of a later dictionary at a position, with the average slopes between the two runs
(:mod:`patching.secant`) on all paths that lead through no other dictionary's place,

    pre_j - pre_j' = sum over s of A[j, s]          tokens, latents and errors of earlier places
    f_j - f_j'     = slope_j (pre_j - pre_j') + selection_j
    w(s -> j)      = A[j, s] slope_j h_j            h_j = g . w_j, the metric's gradient at j

``slope_j`` is the average slope of the ReLU, times the mean of 1 and 0 for being active in the two
runs. That is bounded; what is left, a latent's appearing or vanishing by a threshold or by its
rank among others, is ``selection_j h_j``. So the edges into a latent, what stands in for small
senders, and its selection add up to its score, ``(f_j - f_j') h_j``:

    score_j = sum of kept edges + rest_j + selection_j

Edges are summed over positions, sender by sender, and averaged over prompts; edges into the logits
carry what is on no path through a later place. Source: Marks et al. 2024 (arXiv 2403.19647), whose
tangents do not add up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.readings import point_of
from patching.dictionaries.splice import in_order
from patching.linearised import Kinds
from patching.methods import get, linearisation
from patching.metrics import check_metric
from patching.model import Model
from patching.norms import precise
from patching.progress import Progress
from patching.runs import Batch
from patching.setting import Setting
from patching.traces.graph import nodes_of
from patching.traces.nodes import LOGIT, Nodes
from patching.traces.replaced import Replaced
from patching.traces.rows import Rows
from tasks.errors import MethodError
from tasks.pairs import PromptPairs

METRIC = "logit_diff"
END = "logits"


@dataclass(frozen=True)
class LatentEdges:
    """Edges between latents, averaged over prompts, in units of the metric.

    edges      by sender and receiver; senders are latents, error terms and ``input``
    scores     of every receiver: what its edges, rest and selection sum to
    rest       of every receiver: from senders that are not kept
    selection  of every receiver: by appearing or vanishing beyond what its input says
    """

    edges: dict[tuple[str, str], float]
    scores: dict[str, float]
    rest: dict[str, float]
    selection: dict[str, float]
    prompts: int


def latent_edges(
    model: Model,
    pairs: PromptPairs,
    dictionaries: Iterable[Dictionary],
    latents: Sequence[str],
    batch_size: int = 32,
    progress: Progress | None = None,
) -> LatentEdges:
    """Edges between some latents (by name, without position), error terms, input and logits.

    Raises:
        SiteError: a dictionary that does not fit, or scales what it reads.
        MethodError: a model with a soft-cap on its logits, or answers of several tokens.
        TaskError: a prompt that is the same in both runs.
    """
    placed = in_order(dictionaries)
    if model.parts.logit_cap is not None:
        raise MethodError("this model caps its logits, and edges into them are of plain ones")
    if (pairs.answer[:, 1:] >= 0).any() or (pairs.counterfactual[:, 1:] >= 0).any():
        raise MethodError("edges between latents are for answers of one token; these have several")
    sums = _Sums(frozenset(latents))
    for row in range(len(pairs)):
        prompt = pairs[row : row + 1]
        found = _Prompt.of(model, prompt, placed, sums.kept, batch_size)
        found.add_to(sums)
        if progress is not None:
            progress(row + 1, len(pairs), "edges between latents")
    return sums.mean(len(pairs))


class _Sums:
    """Totals over prompts."""

    def __init__(self, kept: frozenset[str]) -> None:
        self.kept = kept
        self.edges: dict[tuple[str, str], float] = defaultdict(float)
        self.scores: dict[str, float] = defaultdict(float)
        self.rest: dict[str, float] = defaultdict(float)
        self.selection: dict[str, float] = defaultdict(float)

    def mean(self, prompts: int) -> LatentEdges:
        """Averages over so many prompts."""

        def averaged(values: dict[str, float]) -> dict[str, float]:
            return {name: value / prompts for name, value in values.items()}

        edges = {ends: value / prompts for ends, value in self.edges.items() if value}
        return LatentEdges(
            edges=edges,
            scores=averaged(self.scores),
            rest=averaged(self.rest),
            selection=averaged(self.selection),
            prompts=prompts,
        )


@dataclass(frozen=True)
class _Prompt:
    """One pair of prompts: rows of effects on the kept latents and on the answer's logits.

    slopes, weights, selection  of every target: what effects count for, and what is left
    """

    replaced: Replaced
    nodes: Nodes
    targets: Int[np.ndarray, " t"]
    rows: Float[np.ndarray, "t s"]
    kept: frozenset[str]
    gradients: dict[int, Float[Tensor, "s d"]]
    answers: tuple[int, int]

    @classmethod
    def of(
        cls,
        model: Model,
        pairs: PromptPairs,
        placed: Sequence[Dictionary],
        kept: frozenset[str],
        batch_size: int,
    ) -> _Prompt:
        batch = Batch.of(model, pairs)
        inside = batch.mask[0]
        ids, other = batch.clean[0][inside], batch.corrupted[0][inside]
        replaced = Replaced.cut(model, ids, other, placed)
        answers = int(pairs.answer[0, 0]), int(pairs.counterfactual[0, 0])
        nodes = nodes_of(replaced, _ends(answers))
        names = _names(nodes)
        wanted = [i for i in nodes.targets if nodes.kind[i] == LOGIT or names[i] in kept]
        targets = np.array(wanted, dtype=np.int64)
        effects = Rows(replaced, nodes, batch_size).of(targets)
        grads = _gradients(model, batch, placed)
        gradients = {i: g[0][inside] for i, g in enumerate(grads)}
        return cls(replaced, nodes, targets, effects, kept, gradients, answers)

    def add_to(self, sums: _Sums) -> None:
        """Add this prompt's edges, scores and remainders."""
        names = _names(self.nodes)
        senders = np.array(names[: self.nodes.n_sources], dtype=object)
        known = {name: i for i, name in enumerate(dict.fromkeys(senders))}
        number = np.array([known[name] for name in senders])
        for row, target in enumerate(self.targets.tolist()):
            receiver = END if self.nodes.kind[target] == LOGIT else names[target]
            factor, score, selection = self._weight(target)
            by_name = np.bincount(number, self.rows[row] * factor, minlength=len(known))
            kept = 0.0
            for name, at in known.items():
                if self._sends(name):
                    sums.edges[name, receiver] += float(by_name[at])
                    kept += float(by_name[at])
            sums.scores[receiver] += score
            sums.selection[receiver] += selection
            sums.rest[receiver] += score - selection - kept

    def _sends(self, name: str) -> bool:
        return name in self.kept or name == "input" or name.endswith(".err")

    def _weight(self, target: int) -> tuple[float, float, float]:
        """What an effect on a target counts for, the target's score, and its selection."""
        if self.nodes.kind[target] == LOGIT:
            # m = logit of the answer minus that of the other one.
            sign = 1.0 if int(self.nodes.unit[target]) == self.answers[0] else -1.0
            unit = torch.tensor([int(self.nodes.unit[target])], device=self.replaced.ids.device)
            value = self.replaced.unembedding(unit) @ self.replaced.parts.final
            return sign, sign * float(value), 0.0
        columns = self.nodes.layer, self.nodes.position, self.nodes.unit
        place, at, latent = (int(column[target]) for column in columns)
        part, here = self.replaced.parts.layers[place], self.replaced.clean.layers[place]
        assert self.replaced.other is not None
        there = self.replaced.other.layers[place]
        assert part.dictionary is not None
        h = float(self.gradients[place][at] @ part.dictionary.W_dec[latent])
        pre, f = _number(part.pre, at, latent), _number(part.amounts, at, latent)
        slope = _slope(
            (_number(here.pre, at, latent), _number(there.pre, at, latent)),
            (_number(here.amounts, at, latent) > 0, _number(there.amounts, at, latent) > 0),
            part.dictionary.activation,
        )
        return slope * h, f * h, (f - slope * pre) * h


def _ends(answers: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(sorted(answers)), np.ones(2)


def _names(nodes: Nodes) -> list[str]:
    """Names of nodes without their positions."""
    return [nodes.site(number).at(None).name for number in range(len(nodes))]


def _number(values: Tensor | None, at: int, unit: int) -> float:
    assert values is not None
    return float(values[at, unit])


def _slope(pre: tuple[float, float], active: tuple[bool, bool], activation: str) -> float:
    """The bounded average slope of an activation function between two runs."""
    p, q = pre
    change = p - q
    flat = abs(change) < 1e-12
    relu = float(p > 0) if flat else (max(p, 0.0) - max(q, 0.0)) / change
    if activation == "relu":
        return relu
    return relu * (active[0] + active[1]) / 2


def _gradients(
    model: Model, batch: Batch, placed: Sequence[Dictionary]
) -> list[Float[Tensor, "b s d"]]:
    """The metric's gradient at every place, with average slopes."""
    kinds = tuple(dict.fromkeys(point_of(each.writes)[0] for each in placed))
    setting = Setting(model, batch, check_metric(METRIC), "noising")
    found = linearisation("secant", get("secant").check({}))(setting, Kinds.scoring(kinds))
    (only,) = found.passes
    grads = [precise(only.gradients.grads[point_of(each.writes)]) for each in placed]
    return [g.flatten(2) if g.ndim == 4 else g for g in grads]
