"""Relevance rules: other derivatives for the nonlinear steps of a forward pass.

A rule set is a value. The papers' own sets have names: ``relp`` (Rezaei Jafari et al. 2025),
``gim`` (Edin et al. 2025), ``attnlrp`` (Achtibat et al. 2024); any other combination can be made
or named on the command line, such as ``relp,pattern=detach`` or ``norm=freeze,temperature=2``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from patching.blocks import Block
from patching.experts import Experts
from patching.norms import Norm, precise
from patching.ops import (
    EVERYWHERE,
    NormSlope,
    Ops,
    Point,
    Where,
    derivative,
    mix_vjp,
    scores_vjp,
    substitute,
    with_sinks,
)
from tasks.errors import MethodError, all_faults, unknown

CHOICES: dict[str, tuple[str, ...]] = {
    "norm": ("plain", "freeze"),
    "activation": ("plain", "ratio"),
    "gate": ("plain", "half", "detach"),
    "products": ("plain", "half"),
    "pattern": ("plain", "detach"),
    "cap": ("plain", "ratio"),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """Which derivative stands in at each kind of step; everything linear is left alone.

    norm: ``freeze`` treats the scale of a norm as a constant (Ali et al. 2022).
    activation: ``ratio`` uses ``f(x)/x`` for ``f'(x)``, with the limit ``f'(0)`` at zero.
    gate: ``half`` halves the gradient of both factors of a gated MLP; ``detach`` gives the
        activated factor none. Under both, a router's weights are constants: experts are weighted
        as they were in this run, and nothing reaches what the router reads.
    products: ``half`` halves the gradients of both factors of query x key and of pattern x value.
    pattern: ``detach`` gives the attention pattern no gradient, so nothing reaches q and k.
    temperature: the softmax's derivative is taken at scores divided by this (GIM uses 2).
    cap: ``ratio`` uses ``f(x)/x`` at the soft-caps of scores and logits (Gemma 2). The papers give
        no rule there, so their sets leave the plain derivative, and relevance is lost at the cap.
    """

    norm: str = "plain"
    activation: str = "plain"
    gate: str = "plain"
    products: str = "plain"
    pattern: str = "plain"
    temperature: float = 1.0
    cap: str = "plain"

    def __post_init__(self) -> None:
        faults = [
            unknown(f"rule for {name}", getattr(self, name), allowed)
            for name, allowed in CHOICES.items()
            if getattr(self, name) not in allowed
        ]
        if not 0 < self.temperature < float("inf"):
            faults.append(f"temperature must be a positive number, given {self.temperature}")
        if self.pattern == "detach" and self.temperature != 1.0:
            faults.append("pattern=detach leaves the softmax no gradient for temperature to change")
        if self.pattern == "detach" and self.products == "half":
            faults.append(
                "pattern=detach stops the half that products=half gives to the pattern, and the "
                "values would keep the other half alone: use one of them"
            )
        if faults:
            raise MethodError(all_faults("these relevance rules cannot be used:", faults))

    @classmethod
    def relp(cls) -> Rules:
        """RelP as in its paper's experiments: frozen norms, activation ratio, half at gates."""
        return cls(norm="freeze", activation="ratio", gate="half")

    @classmethod
    def gim(cls) -> Rules:
        """GIM: frozen norms, half at every product, softmax derivative at temperature 2."""
        return cls(norm="freeze", gate="half", products="half", temperature=2.0)

    @classmethod
    def attnlrp(cls) -> Rules:
        """AttnLRP in its gradient form: RelP's rules and half at the attention's products."""
        return cls(norm="freeze", activation="ratio", gate="half", products="half")

    @classmethod
    def parse(cls, text: str) -> Rules:
        """Read a name, a list of ``step=rule`` settings, or a name followed by settings.

        Raises:
            MethodError: an unknown name, step or rule, or rules that contradict each other.
        """
        named: dict[str, Callable[[], Rules]] = {
            "relp": cls.relp,
            "gim": cls.gim,
            "attnlrp": cls.attnlrp,
            "none": cls,
        }
        rules, faults = cls(), list[str]()
        settings: dict[str, Any] = {}
        for i, item in enumerate(part.strip() for part in text.split(",")):
            key, equals, value = item.partition("=")
            if not equals and i == 0 and item in named:
                rules = named[item]()
            elif not equals:
                faults.append(unknown("rule set", item, named))
            elif key in settings:
                faults.append(f"'{key}' is set twice")
            elif key == "temperature":
                settings[key] = _number(value, faults)
            elif key in CHOICES:
                settings[key] = value
            else:
                faults.append(unknown("step", key, [*CHOICES, "temperature"]))
        if faults:
            raise MethodError(all_faults(f"cannot read the rules '{text}':", faults))
        return replace(rules, **settings)

    def __str__(self) -> str:
        for name in ("relp", "gim", "attnlrp"):
            if self == getattr(Rules, name)():
                return name
        plain = Rules()
        changed = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != getattr(plain, f.name)
        }
        return ",".join(f"{k}={v}" for k, v in changed.items()) or "none"

    def to_json(self) -> dict[str, str | float]:
        """Plain values for a file."""
        return asdict(self)


def _number(text: str, faults: list[str]) -> float:
    try:
        return float(text)
    except ValueError:
        faults.append(f"temperature must be a number, given '{text}'")
        return 1.0


class RelevanceOps(Ops):
    """The plain forward pass with the derivatives that a rule set names."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    @override
    def _norm(self, norm: Norm, x: Tensor, point: Point) -> Tensor:
        if self.rules.norm == "plain":
            return norm(x)
        vjp = self.norm_vjp(norm, x.detach(), point)
        return substitute(norm(x.detach()), lambda g: (vjp(g),), x)

    @override
    def norm_slope(
        self, norm: Norm, x: Tensor, point: Point, where: Where = EVERYWHERE
    ) -> NormSlope:
        if self.rules.norm == "plain":
            return super().norm_slope(norm, x, point, where)
        return NormSlope(1 / norm.scale(x))

    @override
    def activation(self, act: Callable[[Tensor], Tensor], x: Tensor, point: Point) -> Tensor:
        if self.rules.activation == "plain":
            return act(x)
        return with_ratio(act, x)

    @override
    def slope(
        self, act: Callable[[Tensor], Tensor], x: Tensor, point: Point, where: Where = EVERYWHERE
    ) -> Tensor:
        if self.rules.activation == "plain":
            return super().slope(act, x, point, where)
        return ratio_slope(act, precise(x), act(precise(x)))

    @override
    def softcap(self, x: Tensor, cap: float, point: Point) -> Tensor:
        if self.rules.cap == "plain":
            return super().softcap(x, cap, point)
        return with_ratio(lambda t: torch.tanh(t / cap) * cap, x)

    @override
    def gated(
        self, act: Callable[[Tensor], Tensor], gate: Tensor, up: Tensor, point: Point
    ) -> Tensor:
        active = self.activation(act, gate, point)
        a, u = active.detach(), up.detach()
        if self.rules.gate == "half":
            return substitute(a * u, lambda g: (0.5 * g * u, 0.5 * g * a), active, up)
        if self.rules.gate == "detach":
            return substitute(a * u, lambda g: (g * a,), up)
        return active * up

    @override
    def scores(self, q: Tensor, k: Tensor, block: Block) -> Tensor:
        if self.rules.products == "plain":
            return super().scores(q, k, block)
        a, b = q.detach(), k.detach()
        vjp = scores_vjp(a, b, 0.5 * block.attention_scale)
        return substitute(super().scores(a, b, block), vjp, q, k)

    @override
    def softmax(self, scores: Tensor, point: Point, sinks: Tensor | None = None) -> Tensor:
        if self.rules.pattern == "detach":
            return super().softmax(scores.detach(), point, sinks)
        if self.rules.temperature == 1.0:
            return super().softmax(scores, point, sinks)
        cooled = with_sinks(precise(scores.detach()), sinks) / self.rules.temperature
        warm = cooled.softmax(-1)[..., : scores.shape[-1]].to(scores)

        def vjp(g: Tensor) -> tuple[Tensor]:
            return (warm * (g - (g * warm).sum(-1, keepdim=True)),)

        return substitute(super().softmax(scores.detach(), point, sinks), vjp, scores)

    @override
    def mix(self, pattern: Tensor, v: Tensor, point: Point) -> Tensor:
        if self.rules.products == "plain":
            return super().mix(pattern, v, point)
        a, b = pattern.detach(), v.detach()
        return substitute(super().mix(a, b, point), mix_vjp(a, b, 0.5), pattern, v)

    @override
    def _weights(self, experts: Experts, logits: Tensor) -> Tensor:
        # The weight of an expert is a gate whose slope no rule of the papers knows: a constant, so
        # that what an expert writes keeps all of its relevance. The gradient at the weights
        # themselves is still there to be read: it ends in a leaf.
        weights = super()._weights(experts, self._gate(logits))
        return weights.requires_grad_() if torch.is_grad_enabled() else weights

    @override
    def sigmoid(self, logit: Tensor) -> Tensor:
        return super().sigmoid(self._gate(logit))

    def _gate(self, logits: Tensor) -> Tensor:
        return logits if self.rules.gate == "plain" else logits.detach()


def with_ratio(act: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``act(x)``, with ``act(x) / x``, in float32 or better, as its derivative."""
    here, value = x.detach(), act(x.detach())
    wide = precise(here)
    slope = ratio_slope(act, wide, value if wide.dtype == here.dtype else act(wide))
    return substitute(value, lambda g: ((g * slope).to(x.dtype),), x)


def ratio_slope(act: Callable[[Tensor], Tensor], x: Tensor, value: Tensor) -> Tensor:
    """``f(x)/x``, and its limit ``f'(0)`` where ``x`` is too small to divide by."""
    small = x.abs() < 1e-6
    at_zero = derivative(act, torch.zeros(1, dtype=x.dtype, device=x.device))
    return torch.where(small, at_zero, value / torch.where(small, torch.ones_like(x), x))
