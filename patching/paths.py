"""Integrated gradients: the gradient averaged over points on a path between the two runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from patching import softmax_response
from patching.linearised import Kinds, Linearisation, Linearise, Pass, gradients_at
from patching.ops import PLAIN, Point
from patching.runs import record
from patching.setting import Setting
from patching.softmax_response import gradient_from
from tasks.errors import MethodError

Runs = tuple[Mapping[Point, Tensor], Mapping[Point, Tensor]]
"""Values of the clean and of the corrupted run."""


def along_inputs(steps: int = 5) -> Linearise:
    """Integrated gradients on the straight line between the two embeddings, midpoint rule.

    Gradients are averaged over ``steps`` points (Sundararajan et al. 2017; EAP-IG, Hanna et al.
    2024, which takes left end points instead). Two forward passes, and one forward and backward
    pass for each step.
    """
    _check_steps(steps)

    def linearise(setting: Setting, kinds: Kinds) -> Linearisation:
        s = setting
        logits, values = _both(s, kinds.also("input"))

        def passes() -> Iterator[Pass]:
            begin, end = (values[run]["input", 0] for run in ("corrupted", "clean"))
            for put in _on_the_way(("input", 0), begin, end, steps):
                yield Pass(1.0 / steps, gradients_at(s, kinds, put=put, values=kinds.here), PLAIN)

        return _linearised(s, logits, values, passes())

    return linearise


def along_activations(steps: int = 5, qk_fix: bool = False) -> Linearise:
    """Integrated gradients on the scored activations (EAP-IG-activations, MIB 2025).

    For each scored point in turn (all heads of a layer, at all positions), its value goes from
    corrupted to clean while the rest is computed from the receiving run. Two forward passes, and
    ``steps`` forward and backward passes for each point; of single sites, from the point's layer
    on. With ``qk_fix`` the path of queries and keys is that of the pattern they give.
    """
    _check_steps(steps)

    def linearise(setting: Setting, kinds: Kinds) -> Linearisation:
        logits, values = _both(setting, kinds.also("resid_pre") if kinds.alone else kinds)
        points = [point for point in values["clean"] if point[0] in kinds.scored]
        runs = values["clean"], values["corrupted"]
        passes = _through(setting, kinds, runs, points, steps, qk_fix)
        return _linearised(setting, logits, values, passes)

    return linearise


def _through(
    s: Setting,
    kinds: Kinds,
    runs: Runs,
    points: list[Point],
    steps: int,
    qk_fix: bool,
) -> Iterator[Pass]:
    """Passes along the path of one point after the other, each speaking for that point alone."""
    here, _ = s.ordered(*runs)
    for point in points:
        at, ends = point, (runs[1][point], runs[0][point])
        if qk_fix and point[0] in softmax_response.ANSWERED:
            at, ends = softmax_response.path(s, *runs, point)
        for put in _on_the_way(at, *ends, steps):
            if kinds.alone:
                at_step = gradient_from(s, here["resid_pre", at[1]], put)
            else:
                at_step = gradients_at(s, kinds, put=put, values=kinds.here)
            yield Pass(1.0 / steps, at_step, PLAIN, frozenset([point]))
            del at_step


def _on_the_way(
    point: Point, begin: Tensor, end: Tensor, steps: int
) -> Iterator[tuple[Point, Tensor]]:
    """Midpoints of equal steps on a straight line."""
    for step in range(steps):
        yield point, torch.lerp(begin, end, (step + 0.5) / steps)


def _both(s: Setting, kinds: Kinds) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Logits and values of both runs."""
    logits, values = {}, {}
    for run in ("clean", "corrupted"):
        logits[run], values[run] = record(s.model, s.batch, run, kinds.read)
    return logits, values


def _linearised(
    s: Setting, logits: dict[str, Tensor], values: dict[str, Any], passes: Iterator[Pass]
) -> Linearisation:
    return Linearisation(
        clean=values["clean"],
        corrupted=values["corrupted"],
        metric_clean=s.metric(logits["clean"], s.batch.pairs),
        metric_corrupted=s.metric(logits["corrupted"], s.batch.pairs),
        passes=passes,
    )


def _check_steps(steps: int) -> None:
    if not isinstance(steps, int) or steps < 1:
        raise MethodError(f"steps must be a whole number of at least 1, given {steps!r}")
