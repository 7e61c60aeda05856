"""Scores of a circuit's edges inside the circuit: everything outside it stays ablated.

With every edge of a circuit C carrying the share ``alpha`` of its sender's change, the metric
goes from ``m(empty)`` at 0 to ``m(C)`` at 1, and

    E(e) = integral over alpha of  dm / d(share of e)

so that the scores add up to ``m(C) - m(empty)``: what an edge carries together with the rest of
its circuit, where scores of the whole model say what it carries together with all edges. The
integral is taken at midpoints (integrated gradients over edge masks, Sundararajan et al. 2017).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from patching.ablation.kinds import Ablation
from patching.ablation.means import MeanActivations
from patching.changes import Reading
from patching.circuit_run import CircuitRunner, settled_runner
from patching.in_use import undisturbed
from patching.metrics import CheckedMetric, Metric, check_metric
from patching.model import Model
from patching.nodes.edges import EdgeSet
from patching.runs import Batch
from patching.scores import Scores
from patching.sites import Edge
from patching.sweep import Sweep, added, sweep
from tasks.errors import MethodError
from tasks.pairs import PromptPairs

METHOD = "inside"


def inside_scores(
    model: Model,
    pairs: PromptPairs,
    circuit: Iterable[str | Edge],
    *,
    metric: str | Metric = "logit_diff",
    steps: int = 5,
    batch_size: int | Sweep = 32,
    ablation: str | Ablation = "corrupted",
    means: MeanActivations | None = None,
) -> Scores:
    """Score every edge of a circuit inside it, in units of the metric.

    Positive: what the edge carries pushes the metric towards the clean answer. ``steps`` midpoints
    are averaged; with 0 the gradient is taken where every edge carries all of its change, which for
    the circuit of all edges is edge attribution patching, noising (Syed et al. 2023). ``clean`` is
    the metric of the circuit, ``corrupted`` that of the empty one. Outside of the circuit, and
    where an edge carries nothing, the ``ablation`` stands in, its means of the pairs' clean prompts
    unless others are given.

    Raises:
        SiteError: an edge that this model does not have.
        MethodError: an empty circuit, a negative number of steps, or an unknown ablation.
    """
    wiring = EdgeSet.of(circuit, model.anatomy)
    count, nodes = len(wiring), wiring.layout.nodes
    if not count or steps < 0:
        raise MethodError(f"nothing to score: {count} edges, {steps} steps")
    checked = check_metric(metric)
    ends = wiring, EdgeSet.none(wiring.layout)
    options = Sweep.of(batch_size)
    runner_of = settled_runner(model, pairs, ablation, means, options, nodes)

    def work(batch: Batch) -> tuple[np.ndarray, ...]:
        runner = runner_of(batch)
        rows = _inside(runner, wiring, checked, steps).double().cpu().numpy()
        at_ends = [float(checked(runner.logits(w), batch.pairs).double().sum()) for w in ends]
        return rows.sum(0), (rows**2).sum(0), np.array(at_ends)

    totals, squares, (full, empty) = added(sweep(model, pairs, work, options))
    return Scores(
        names=tuple(edge.name for edge in wiring),
        totals=totals,
        squares=squares,
        count=len(pairs),
        level="edge",
        method=METHOD,
        direction="noising",
        metric=checked.name,
        anatomy=model.anatomy,
        clean=float(full),
        corrupted=float(empty),
        task=pairs.task,
        model_hash=model.hash,
        options={"steps": steps},
    )


def _inside(
    runner: CircuitRunner, wiring: EdgeSet, metric: CheckedMetric, steps: int
) -> Float[Tensor, "b edges"]:
    strengths = [(step + 0.5) / steps for step in range(steps)] or [1.0]
    total: Tensor | float = 0.0
    for strength in strengths:
        total = total + _gradients(runner, wiring, metric, strength) / len(strengths)
    assert isinstance(total, Tensor)
    return total


@undisturbed
@torch.enable_grad()
def _gradients(
    runner: CircuitRunner, wiring: EdgeSet, metric: CheckedMetric, strength: float
) -> Float[Tensor, "b edges"]:
    """Derivative of every prompt's metric by the share that each edge carries, in rising order."""
    readings: list[Reading] = []

    def watch(reading: Reading) -> Tensor:
        if not reading.x.requires_grad:
            reading.x.requires_grad_()
        readings.append(reading)
        return reading.x

    value = metric(runner.run(wiring, strength, watch), runner.batch.pairs)
    grads = torch.autograd.grad(value.sum(), [r.x for r in readings], allow_unused=True)
    every = value.new_zeros(len(value), wiring.layout.n_edges)
    for reading, gradient in zip(readings, grads, strict=True):
        if gradient is not None:
            numbers, products = _edges_of(reading, gradient)
            every[:, numbers] = products.T
    return every[:, torch.as_tensor(wiring.numbers, device=every.device)].detach()


def _edges_of(
    reading: Reading, gradient: Float[Tensor, "r b s d"]
) -> tuple[Int[Tensor, " e"], Float[Tensor, "e b"]]:
    """``change . gradient`` of every wired edge whose sender writes more, with its number."""
    group, senders = reading.group, np.array(reading.changes.senders(reading.group.reads))
    product = reading.changes.product(gradient, group.reads)
    rows, columns = np.nonzero(reading.wired[:, senders])
    numbers = group.start + np.array(reading.units)[rows] * group.reads + senders[columns]
    return torch.as_tensor(numbers, device=gradient.device), product[rows, columns]
