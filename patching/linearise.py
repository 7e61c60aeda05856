"""Linearisations: how a gradient method replaces the model by a linear one.

Every gradient method scores a site by ``delta . g`` with ``delta = z_clean - z_corrupted``. They
differ in the passes that give ``g``: at which run, at points between the runs, or with another
derivative for the nonlinear steps. A linearisation yields those passes; what is scored with
them (nodes, finer sites, edges) is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from patching.metrics import CheckedMetric
from patching.model import Model
from patching.norms import precise
from patching.ops import PLAIN, Ops, Point
from patching.rules import RelevanceOps, Rules
from patching.runs import Batch, Slopes, record, slopes
from patching.secant import SecantOps
from tasks.errors import MethodError, unknown


@dataclass(frozen=True)
class Setting:
    """What is being linearised: a batch of pairs, a metric and a direction."""

    model: Model
    batch: Batch
    metric: CheckedMetric
    direction: str

    @property
    def receiving(self) -> str:
        """The run that receives the patch, and at which plain gradients are taken."""
        return "clean" if self.direction == "noising" else "corrupted"

    @property
    def giving(self) -> str:
        """The other run."""
        return "corrupted" if self.direction == "noising" else "clean"

    def sign(self) -> float:
        """Turns receiving minus giving into clean minus corrupted."""
        return 1.0 if self.direction == "noising" else -1.0


@dataclass(frozen=True)
class Pass:
    """One backward pass: its weight in the sum, its gradients, and its derivatives of norms.

    ``covers`` names the senders' points that the pass speaks for; None for all of them.
    """

    weight: float
    slopes: Slopes
    ops: Ops
    covers: frozenset[Point] | None = None


@dataclass(frozen=True)
class Linearised:
    """All that scores are made of: both runs' values at the wanted points, and the passes.

    ``passes`` is consumed once, and may compute each pass when it is asked for. With ``dropped``
    the first pass gives the sign and the mean absolute score of the others the size (GradDrop).
    """

    clean: dict[Point, Tensor]
    corrupted: dict[Point, Tensor]
    metric_clean: Tensor
    metric_corrupted: Tensor
    passes: Iterator[Pass]
    dropped: bool = False

    def delta(self, point: Point) -> Tensor:
        """``z_clean - z_corrupted`` at a point, in float32 or better."""
        return precise(self.clean[point]) - precise(self.corrupted[point])


Linearise = Callable[[Setting, tuple[str, ...]], Linearised]


def _pair(
    setting: Setting, found: Slopes, other_logits: Tensor, other: dict[Point, Tensor]
) -> dict[str, Any]:
    """The two runs in the order clean, corrupted, when one of them came with gradients."""
    other_metric = setting.metric(other_logits, setting.batch.pairs)
    sides = [(found.values, found.metric), (other, other_metric)]
    (clean, m_clean), (corrupted, m_corrupted) = sides if setting.sign() > 0 else sides[::-1]
    return {
        "clean": clean,
        "corrupted": corrupted,
        "metric_clean": m_clean,
        "metric_corrupted": m_corrupted,
    }


def at_receiver(rules: Rules | None = None) -> Linearise:
    """The gradient at the run that receives the patch, plain or under relevance rules.

    Plain: attribution patching (Nanda 2023; Syed et al. 2023 for edges). With rules: relevance
    patching (Rezaei Jafari et al. 2025). Two forward passes and one backward pass.
    """
    ops = PLAIN if rules is None else RelevanceOps(rules)

    def linearise(setting: Setting, kinds: tuple[str, ...]) -> Linearised:
        s = setting
        logits, other = record(s.model, s.batch, s.giving, kinds)
        found = slopes(s.model, s.batch, s.receiving, s.metric, kinds, ops)
        return Linearised(**_pair(s, found, logits, other), passes=iter([Pass(1.0, found, ops)]))

    return linearise


def dropping_layers() -> Linearise:
    """GradDrop of AtP* (Kramar et al. 2024): one more backward pass per layer.

    Pass ``l`` lets no gradient through the attention of layer ``l``; the size of a score is the
    sum of its absolute values over passes, divided by the number of layers less one.
    """

    def linearise(setting: Setting, kinds: tuple[str, ...]) -> Linearised:
        s, layers = setting, setting.model.anatomy.n_layers
        if layers < 2:
            raise MethodError("grad_drop needs a model of at least two layers")
        logits, other = record(s.model, s.batch, s.giving, kinds)
        plain = slopes(s.model, s.batch, s.receiving, s.metric, kinds)

        def passes() -> Iterator[Pass]:
            yield Pass(1.0, plain, PLAIN)
            for layer in range(layers):
                found = slopes(
                    s.model, s.batch, s.receiving, s.metric, kinds, closed_to=("attn_out", layer)
                )
                yield Pass(1.0 / (layers - 1), found, PLAIN)

        return Linearised(**_pair(s, plain, logits, other), passes=passes(), dropped=True)

    return linearise


def between_runs(share: float = 1.0) -> Linearise:
    """Two-run secants (:mod:`patching.secant`): two forward passes and one backward pass."""
    if not 0 <= share <= 1:
        raise MethodError(f"share must lie between 0 (tangents) and 1 (secants), given {share}")

    def linearise(setting: Setting, kinds: tuple[str, ...]) -> Linearised:
        s = setting
        wanted = tuple(dict.fromkeys((*kinds, *SecantOps.needs)))
        logits, other = record(s.model, s.batch, s.giving, wanted)
        ops = SecantOps(other, share)
        found = slopes(s.model, s.batch, s.receiving, s.metric, kinds, ops)
        return Linearised(**_pair(s, found, logits, other), passes=iter([Pass(1.0, found, ops)]))

    return linearise


def secant_and_tangent() -> Linearise:
    """Two-run secants and plain gradients in equal parts: one more backward pass than either.

    Query and key sites are left to the plain gradient at the pattern, which the exact answer of
    the softmax goes with (:mod:`patching.softmax_response`): their own effects are small, so that
    the tangent is the right slope from there on.
    """

    def linearise(setting: Setting, kinds: tuple[str, ...]) -> Linearised:
        s = setting
        found = between_runs()(s, kinds)
        plain = slopes(s.model, s.batch, s.receiving, s.metric, kinds)
        (secant,) = found.passes
        if "pattern" in kinds:
            tangent = {point: plain.grads[point] for point in plain.grads if point[0] == "pattern"}
            grads = secant.slopes.grads | tangent
            secant = replace(secant, slopes=replace(secant.slopes, grads=grads))
        both = (replace(secant, weight=0.5), Pass(0.5, plain, PLAIN))
        return replace(found, passes=iter(both))

    return linearise


def along_inputs(steps: int = 5) -> Linearise:
    """Integrated gradients on the straight line between the two embeddings, midpoint rule.

    Gradients are averaged over ``steps`` points (Sundararajan et al. 2017; EAP-IG, Hanna et al.
    2024, which takes left end points instead). Two forward passes, and one forward and backward
    pass for each step.
    """
    _check_steps(steps)

    def linearise(setting: Setting, kinds: tuple[str, ...]) -> Linearised:
        s = setting
        logits, values = _both(s, tuple(dict.fromkeys(("input", *kinds))))

        def passes() -> Iterator[Pass]:
            begin, end = (values[run]["input", 0] for run in ("corrupted", "clean"))
            for step in range(steps):
                start = torch.lerp(begin, end, (step + 0.5) / steps)
                put = (("input", 0), start)
                found = slopes(s.model, s.batch, s.receiving, s.metric, kinds, put=put)
                yield Pass(1.0 / steps, found, PLAIN)

        return _linearised(s, logits, values, passes())

    return linearise


def along_activations(steps: int = 5) -> Linearise:
    """Integrated gradients on the senders' own activations (EAP-IG-activations, MIB 2025).

    For each sender's point in turn, its value goes from corrupted to clean while the rest is
    computed from the receiving run. Two forward passes, and ``steps`` forward and backward
    passes for each of ``2 n_layers + 1`` points.
    """
    _check_steps(steps)

    def linearise(setting: Setting, kinds: tuple[str, ...]) -> Linearised:
        s = setting
        points = [("input", 0)] + [
            (kind, layer) for layer in range(s.model.anatomy.n_layers) for kind in ("z", "mlp_out")
        ]
        wanted = tuple(dict.fromkeys(("input", "z", "mlp_out", *kinds)))
        logits, values = _both(s, wanted)

        def passes() -> Iterator[Pass]:
            for point in points:
                begin, end = values["corrupted"][point], values["clean"][point]
                for step in range(steps):
                    put = (point, torch.lerp(begin, end, (step + 0.5) / steps))
                    found = slopes(s.model, s.batch, s.receiving, s.metric, kinds, put=put)
                    yield Pass(1.0 / steps, found, PLAIN, frozenset([point]))

        return _linearised(s, logits, values, passes())

    return linearise


def _both(s: Setting, kinds: tuple[str, ...]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Logits and values of both runs."""
    logits, values = {}, {}
    for run in ("clean", "corrupted"):
        logits[run], values[run] = record(s.model, s.batch, run, kinds)
    return logits, values


def _linearised(
    s: Setting, logits: dict[str, Tensor], values: dict[str, Any], passes: Iterator[Pass]
) -> Linearised:
    return Linearised(
        clean=values["clean"],
        corrupted=values["corrupted"],
        metric_clean=s.metric(logits["clean"], s.batch.pairs),
        metric_corrupted=s.metric(logits["corrupted"], s.batch.pairs),
        passes=passes,
    )


def _check_steps(steps: int) -> None:
    if not isinstance(steps, int) or steps < 1:
        raise MethodError(f"steps must be a whole number of at least 1, given {steps!r}")


def check_direction(direction: str) -> None:
    """Refuse a direction that is neither noising nor denoising."""
    if direction not in ("noising", "denoising"):
        raise MethodError(unknown("direction", direction, ("noising", "denoising")))
