"""The attribution graph of a prompt: which nodes there are, and all direct effects between them.

Where more latents are active than are wanted, rows are computed for those with the most influence
so far, a few batches at a time (greedily, as circuit-tracer does). What the others write is added
to the error of their place, so that every row still sums to what its target is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

from patching.progress import Progress
from patching.traces.influence import Adjacency, fold, influence
from patching.traces.linear import targets_of
from patching.traces.nodes import ERROR, LATENT, LOGIT, TOKEN, Nodes
from patching.traces.replaced import Replaced
from patching.traces.rows import Rows
from tasks.errors import MethodError

MOST_LOGITS, LEAST_PROBABILITY = 10, 0.95
RANKED_EVERY = 4
"""Batches of rows between two rankings of what is left."""


@dataclass(frozen=True)
class Traced:
    """An attribution graph.

    active  latents that were active; of a pair, that differ
    """

    replaced: Replaced
    adjacency: Adjacency
    active: int


def trace_prompt(
    replaced: Replaced,
    logits: Sequence[int] = (),
    most: int = 7500,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Traced:
    """All direct effects between tokens, errors, active latents and logits.

    ``logits`` are token ids; without any, the most likely tokens that together have 95 % of the
    probability, at most ten. Memory: ``4 * most * sources`` bytes beside the model's and a graph of
    ``batch_size`` prompts.

    Raises:
        MethodError: fewer than one latent or copy, or no latent is active.
    """
    for name, number in (("latents", most), ("batch size", batch_size)):
        if number < 1:
            raise MethodError(f"the number of {name} is {number}; give 1 or more")
    nodes = nodes_of(replaced, _logits(replaced, logits))
    latents = np.flatnonzero(nodes.of(LATENT))
    rows = Rows(replaced, nodes, batch_size)
    found = _chosen(rows, nodes, latents, min(most, len(latents)), progress)
    return Traced(replaced, found, len(latents))


def _logits(replaced: Replaced, wanted: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and their probabilities."""
    shares = replaced.clean.logits.double().softmax(-1)
    if len(wanted):
        ids = torch.tensor(sorted(set(wanted)), device=shares.device)
    else:
        best = shares.topk(min(MOST_LOGITS, len(shares)))
        enough = int((best.values.cumsum(0) < LEAST_PROBABILITY).sum()) + 1
        ids = best.indices[:enough].sort().values
    return ids.cpu().numpy(), shares[ids].cpu().numpy()


def nodes_of(replaced: Replaced, logits: tuple[np.ndarray, np.ndarray]) -> Nodes:
    """Tokens, errors and active latents (of a pair: those that differ), and some logits."""
    parts, at = replaced.parts, np.arange(replaced.length)
    ids = replaced.ids.cpu().numpy()
    groups = [Nodes.group(TOKEN, -1, at, ids, np.ones(len(at)))]
    for number, layer in enumerate(parts.layers):
        lengths = layer.error.norm(dim=-1).double().cpu().numpy()
        groups.append(Nodes.group(ERROR, number, at, np.full(len(at), -1), lengths))
        if layer.amounts is not None:
            where = layer.amounts.nonzero()
            amounts = layer.amounts[where[:, 0], where[:, 1]].double().cpu().numpy()
            position, unit = where.T.cpu().numpy()
            groups.append(Nodes.group(LATENT, number, position, unit, amounts))
    last = np.full(len(logits[0]), replaced.length - 1)
    groups.append(Nodes.group(LOGIT, len(parts.layers), last, *logits))
    return Nodes.joined(groups, tuple(layer.name for layer in parts.layers))


def _chosen(
    rows: Rows, nodes: Nodes, latents: np.ndarray, most: int, progress: Progress | None
) -> Adjacency:
    """Rows of the logits and of the most influential latents, ranked again as rows come in."""
    done = np.flatnonzero(nodes.of(LOGIT))
    parts = [rows.of(done)]
    left = latents
    step = len(latents) if most == len(latents) else RANKED_EVERY * rows.batch_size
    while len(done) - len(parts[0]) < most and len(left):
        count = min(step, most - (len(done) - len(parts[0])))
        some = _strongest(nodes, done, parts, left, count)
        for start in range(0, len(some), rows.batch_size):
            batch = some[start : start + rows.batch_size]
            parts.append(rows.of(batch))
            done = np.concatenate([done, batch])
            if progress is not None:
                progress(len(done) - len(parts[0]), most, "direct effects")
        left = np.setdiff1d(left, some)
    return _assembled(rows.replaced, nodes, done, parts, left)


def _strongest(
    nodes: Nodes, done: np.ndarray, parts: list[np.ndarray], left: np.ndarray, count: int
) -> Int[np.ndarray, " c"]:
    """The next latents, the last layers first within them."""
    if count >= len(left):
        return left[::-1]
    order = np.argsort(done, kind="stable")
    effects = np.concatenate(parts)[order]
    strength = influence(nodes, done[order], effects)
    best = np.argsort(-strength[left], kind="stable")[:count]
    return np.sort(left[best])[::-1]


def _assembled(
    replaced: Replaced, nodes: Nodes, done: np.ndarray, parts: list[np.ndarray], left: np.ndarray
) -> Adjacency:
    """One matrix, its rows in order, with what was not chosen added to the errors."""
    stay = np.ones(len(nodes), dtype=bool)
    stay[left] = False
    kept = nodes[stay]
    effects = np.empty((len(done), kept.n_sources), dtype=parts[0].dtype)
    places, row = np.empty(len(done), dtype=np.int64), 0
    places[np.argsort(done, kind="stable")] = np.arange(len(done))
    columns = stay[: nodes.n_sources]
    parts.reverse()
    while parts:
        part = parts.pop()
        some = fold(nodes, part, left) if len(left) else part
        effects[places[row : row + len(part)]] = some[:, columns]
        row += len(part)
    pre, constant = targets_of(replaced, kept)
    return Adjacency(kept, effects, pre, constant)
