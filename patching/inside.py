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
from jaxtyping import Float
from torch import Tensor

from patching.ablations import Ablation
from patching.changes import Reading
from patching.circuit_run import CircuitRunner, Wiring, runners
from patching.in_use import undisturbed
from patching.metrics import CheckedMetric, Metric, check_metric
from patching.model import Model
from patching.scores import Scores
from patching.sites import PORTS, Edge, Site, edges, parse_edge, senders
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
    batch_size: int = 32,
    ablation: str | Ablation = "corrupted",
) -> Scores:
    """Score every edge of a circuit inside it, in units of the metric.

    Positive: what the edge carries pushes the metric towards the clean answer. ``steps`` midpoints
    are averaged; with 0 the gradient is taken where every edge carries all of its change, which for
    the circuit of all edges is edge attribution patching, noising (Syed et al. 2023). ``clean`` is
    the metric of the circuit, ``corrupted`` that of the empty one. Outside of the circuit, and
    where an edge carries nothing, the ``ablation`` stands in.

    Raises:
        SiteError: an edge that this model does not have.
        MethodError: an empty circuit, a negative number of steps, or an unknown ablation.
    """
    anatomy = model.anatomy
    chosen = {e if isinstance(e, Edge) else parse_edge(e, anatomy) for e in circuit}
    wiring = Wiring.of(chosen, anatomy)
    ordered = [edge for edge in edges(anatomy) if edge in chosen]
    if not ordered or steps < 0:
        raise MethodError(f"nothing to score: {len(ordered)} edges, {steps} steps")
    checked = check_metric(metric)
    totals, squares, ends = np.zeros(len(ordered)), np.zeros(len(ordered)), np.zeros(2)
    for runner in runners(model, pairs, batch_size, ablation):
        found = _inside(runner, wiring, ordered, checked, steps).double().cpu().numpy()
        totals, squares = totals + found.sum(0), squares + (found**2).sum(0)
        for i, each in enumerate((wiring, Wiring.of([], anatomy))):
            ends[i] += float(checked(runner.logits(each), runner.batch.pairs).double().sum())
    return Scores(
        names=tuple(edge.name for edge in ordered),
        totals=totals,
        squares=squares,
        count=len(pairs),
        level="edge",
        method=METHOD,
        direction="noising",
        metric=checked.name,
        anatomy=anatomy,
        clean=float(ends[0]),
        corrupted=float(ends[1]),
        task=pairs.task,
        model_hash=model.hash,
        options={"steps": steps},
    )


def _inside(
    runner: CircuitRunner, wiring: Wiring, ordered: list[Edge], metric: CheckedMetric, steps: int
) -> Float[Tensor, "b edges"]:
    strengths = [(step + 0.5) / steps for step in range(steps)] or [1.0]
    total: Tensor | float = 0.0
    for strength in strengths:
        total = total + _gradients(runner, wiring, ordered, metric, strength) / len(strengths)
    assert isinstance(total, Tensor)
    return total


@undisturbed
@torch.enable_grad()
def _gradients(
    runner: CircuitRunner,
    wiring: Wiring,
    ordered: list[Edge],
    metric: CheckedMetric,
    strength: float,
) -> Float[Tensor, "b edges"]:
    """Derivative of every prompt's metric by the share that each edge carries."""
    seen: list[Reading] = []

    def watch(reading: Reading) -> Tensor:
        if not reading.x.requires_grad:
            reading.x.requires_grad_()
        seen.append(reading)
        return reading.x

    value = metric(runner.run(wiring, strength, watch), runner.batch.pairs)
    grads = torch.autograd.grad(value.sum(), [reading.x for reading in seen], allow_unused=True)
    found: dict[Edge, Tensor] = {}
    sending = senders(runner.model.anatomy)
    for reading, gradient in zip(seen, grads, strict=True):
        if gradient is not None:
            found |= _edges_of(reading, gradient, sending)
    nothing = torch.zeros_like(value)
    return torch.stack([found.get(edge, nothing) for edge in ordered], dim=1).detach()


def _edges_of(
    reading: Reading, gradient: Float[Tensor, "r b s d"], sending: list[Site]
) -> dict[Edge, Float[Tensor, " b"]]:
    product = torch.einsum("rbsd,ubsd->rub", gradient, reading.stack.detach())
    rows, columns = np.nonzero(reading.wired[:, list(reading.senders)])
    return {
        Edge(sending[reading.senders[u]], *_receiver(reading, r)): product[r, u]
        for r, u in zip(rows.tolist(), columns.tolist(), strict=True)
    }


def _receiver(reading: Reading, row: int) -> tuple[Site, str | None]:
    if reading.port in PORTS:
        return Site("head", reading.layer, reading.heads[row]), reading.port
    return (Site("logits") if reading.port == "logits" else Site("mlp", reading.layer)), None
