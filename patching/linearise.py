"""Linearisations from one or two passes: gradients, relevance rules, secants, and their mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

from torch import Tensor

from patching.backward import Beside
from patching.linearised import Kinds, Linearisation, Linearise, Pass, gradients_at
from patching.ops import PLAIN, Point
from patching.rules import RelevanceOps, Rules
from patching.runs import Gradients, record
from patching.secant import SecantOps
from patching.setting import Setting
from patching.softmax_response import ANSWERED, half_way
from tasks.errors import MethodError


def _pair(
    setting: Setting, gradients: Gradients, other_logits: Tensor, other: dict[Point, Tensor]
) -> dict[str, Any]:
    """The two runs in the order clean, corrupted, when one of them came with gradients."""
    other_metric = setting.metric(other_logits, setting.batch.pairs)
    clean, corrupted = setting.ordered(gradients.values, other)
    m_clean, m_corrupted = setting.ordered(gradients.metric, other_metric)
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

    def linearise(setting: Setting, kinds: Kinds) -> Linearisation:
        s = setting
        logits, other = record(s.model, s.batch, s.giving, kinds.read)
        gradients = gradients_at(s, kinds, ops)
        return Linearisation(
            **_pair(s, gradients, logits, other), passes=iter([Pass(1.0, gradients, ops)])
        )

    return linearise


def dropping_layers() -> Linearise:
    """GradDrop of AtP* (Kramar et al. 2024): one more backward pass per layer.

    Pass ``l`` lets no gradient through the attention of layer ``l``; the size of a score is the
    sum of its absolute values over passes, divided by the number of layers minus one.
    """

    def linearise(setting: Setting, kinds: Kinds) -> Linearisation:
        s, layers = setting, setting.model.anatomy.n_layers
        if layers < 2:
            raise MethodError("grad_drop needs a model of at least two layers")
        logits, other = record(s.model, s.batch, s.giving, kinds.read)
        plain = gradients_at(s, kinds)

        def passes() -> Iterator[Pass]:
            yield Pass(1.0, plain, PLAIN)
            for layer in range(layers):
                gradients = gradients_at(s, kinds, closed_to=("attn_out", layer))
                yield Pass(1.0 / (layers - 1), gradients, PLAIN)

        return Linearisation(**_pair(s, plain, logits, other), passes=passes(), dropped=True)

    return linearise


def between_runs(share: float = 1.0) -> Linearise:
    """Two-run secants (:mod:`patching.secant`): two forward passes and one backward pass."""
    if not 0 <= share <= 1:
        raise MethodError(f"share must lie between 0 (tangents) and 1 (secants), given {share}")

    def linearise(setting: Setting, kinds: Kinds) -> Linearisation:
        s = setting
        stream = s.model.embed(s.batch.tokens(s.giving), s.model.frame(s.batch.mask))
        other = Beside(stream, frozenset(SecantOps.needs), frozenset(kinds.kept))
        ops = SecantOps(other.values, share)
        gradients = gradients_at(s, kinds, ops, beside=other)
        assert other.logits is not None
        pair = _pair(s, gradients, other.logits, other.values)
        return Linearisation(**pair, passes=iter([Pass(1.0, gradients, ops)]))

    return linearise


def secant_and_tangent() -> Linearise:
    """Two-run secants and plain gradients in equal parts: one more backward pass than either.

    Query and key sites are answered by the softmax itself, with the gradient half way to the
    answer (:func:`patching.softmax_response.half_way`): two more forward and backward passes from
    each layer on.
    """

    def linearise(setting: Setting, kinds: Kinds) -> Linearisation:
        s = setting
        gradients = between_runs()(s, kinds)
        plain = gradients_at(s, kinds)
        (secant,) = gradients.passes
        answered = [p for p in plain.values if p[0] in kinds.scored and p[0] in ANSWERED]
        linear = frozenset(plain.values.keys() - set(answered))
        both = (replace(secant, weight=0.5, covers=linear), Pass(0.5, plain, PLAIN, linear))
        fixed = (half_way(s, gradients.clean, gradients.corrupted, point) for point in answered)
        return replace(gradients, passes=chain(both, fixed))

    return linearise
