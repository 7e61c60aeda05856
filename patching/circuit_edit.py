"""A circuit as an intervention: kept alone, cut out, or carried at another strength."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from patching.ablation.kinds import Ablation
from patching.ablation.means import MeanActivations
from patching.changes import Reading
from patching.circuit_run import CircuitRunner, settled_runner
from patching.model import Model
from patching.nodes.edges import EdgeSet
from patching.runs import Batch
from patching.sites import Edge
from patching.sweep import Sweep, sweep
from patching.wired_run import Watch
from tasks.pairs import PromptPairs


@dataclass(frozen=True)
class ScaledCircuit:
    """Watches a run of the whole model, in which some edges carry ``factor`` of their change."""

    edges: EdgeSet
    factor: float

    def __call__(self, reading: Reading) -> Float[Tensor, "r b s d"]:
        """What was read, plus ``factor - 1`` times what the edges brought."""
        rows = self.edges.rows(reading.group)[list(reading.units)]
        if not rows[:, reading.changes.senders(reading.group.reads)].any():
            return reading.x
        return reading.x + (self.factor - 1) * reading.changes.brought(rows)


def circuit_logits(
    model: Model,
    pairs: PromptPairs,
    edges: Iterable[str | Edge],
    *,
    keep: bool,
    factor: float = 1.0,
    ablation: str | Ablation = "corrupted",
    means: MeanActivations | None = None,
    batch_size: int = 32,
) -> Float[Tensor, "n v"]:
    """Logits after every clean prompt with a circuit kept alone, or scaled within the model.

    Every edge carries what stands in for its sender plus a multiple of what the sender writes
    more: with ``keep`` the circuit's edges ``factor`` times, all others nothing; without, the
    circuit's edges ``factor`` times and all others once, so 0 cuts the circuit out.

    Raises:
        SiteError: an edge that this model cannot have.
        MethodError: an ablation that cannot stand in for every sender.
    """
    wiring = EdgeSet.of(edges, model.anatomy)
    nodes = wiring.layout.nodes
    runner_of = settled_runner(model, pairs, ablation, means, nodes=nodes)

    def work(batch: Batch) -> Float[Tensor, "b v"]:
        return _run(runner_of(batch), wiring, keep, factor)

    return torch.cat([*sweep(model, pairs, work, Sweep(batch_size))])


@torch.no_grad()
def _run(runner: CircuitRunner, wiring: EdgeSet, keep: bool, factor: float) -> Float[Tensor, "b v"]:
    if keep:
        return runner.run(wiring, strength=factor)
    watch: Watch = ScaledCircuit(wiring, factor)
    return runner.run(EdgeSet.all(wiring.layout), watch=watch)


def continued(
    model: Model,
    pairs: PromptPairs,
    new: int,
    edges: Iterable[str | Edge],
    **how: object,
) -> Int[np.ndarray, "n new"]:
    """Greedy continuation under a circuit edit, every token appended to both runs of a pair.

    A circuit lives between two runs of the whole prompt, so nothing is cached and every step runs
    them again.
    """
    chosen: list[np.ndarray] = []
    edges = list(edges)
    for _ in range(new):
        logits = circuit_logits(model, pairs, edges, **how)  # type: ignore[arg-type]
        chosen.append(logits.argmax(-1).cpu().numpy())
        pairs = _grown(pairs, chosen[-1])
    return np.stack(chosen, axis=1)


def _grown(pairs: PromptPairs, tokens: Int[np.ndarray, " n"]) -> PromptPairs:
    return replace(
        pairs,
        clean=np.concatenate([pairs.clean, tokens[:, None]], axis=1),
        corrupted=np.concatenate([pairs.corrupted, tokens[:, None]], axis=1),
        mask=np.pad(pairs.mask, ((0, 0), (0, 1)), constant_values=True),
    )
