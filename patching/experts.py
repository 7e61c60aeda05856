"""A mixture of experts: many small MLPs, of which a router chooses a few for every token.

``y(n) = sum_e w_e(n) f_e(n)`` with ``w_e = 0`` for the experts that are not chosen. An expert's MLP
is gated, ``f_e(n) = D_e (act(G_e n) * shift(U_e n))``; a shared expert answers every token, with a
weight of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

Elementwise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Expert:
    """One expert's matrices, as ``[out, in]``, read from the model at each call."""

    gate: Callable[[], tuple[Tensor, Tensor | None]]
    up: Callable[[], tuple[Tensor, Tensor | None]]
    down: Callable[[], tuple[Tensor, Tensor | None]]

    def reads(self, n: Float[Tensor, "t d"]) -> tuple[Float[Tensor, "t m"], Float[Tensor, "t m"]]:
        """The gate and the factor it is multiplied with, before activation functions."""
        return nn.functional.linear(n, *self.gate()), nn.functional.linear(n, *self.up())

    def writes(self, post: Float[Tensor, "t m"]) -> Float[Tensor, "t d"]:
        """What the expert's neurons write."""
        return nn.functional.linear(post, *self.down())


@dataclass(frozen=True)
class Experts:
    """The experts of a layer.

    ``renormalised`` says that the weights of the chosen experts sum to one: they are a softmax over
    those alone. Otherwise they are the chosen entries of a softmax over all. ``shift`` is applied
    to the factor beside the gate (gpt-oss). ``shared`` answers every token, weighted by the sigmoid
    of ``shared_gate`` where there is one.
    """

    router: nn.Module
    top_k: int
    renormalised: bool
    each: tuple[Expert, ...]
    act: Elementwise
    shift: Elementwise | None = None
    shared: Expert | None = None
    shared_gate: nn.Module | None = None

    def logits(self, n: Float[Tensor, "t d"]) -> Float[Tensor, "t e"]:
        """The router's logits."""
        weight: Any = self.router.weight
        return nn.functional.linear(n, weight, getattr(self.router, "bias", None))

    def chosen(self, logits: Float[Tensor, "t e"]) -> Bool[Tensor, "t e"]:
        """Which experts the router takes."""
        best = logits.detach().topk(self.top_k, dim=-1).indices
        return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, best, True)

    def masked(
        self, logits: Float[Tensor, "t e"], chosen: Bool[Tensor, "t e"]
    ) -> Float[Tensor, "t e"]:
        """The logits over which the softmax goes, in float32 or better."""
        wide = logits if logits.dtype == torch.float64 else logits.float()
        if not self.renormalised:
            return wide
        return wide.masked_fill(~chosen, torch.finfo(wide.dtype).min)

    def weights(
        self, logits: Float[Tensor, "t e"], chosen: Bool[Tensor, "t e"]
    ) -> Float[Tensor, "t e"]:
        """What each expert's answer counts for; zero where it is not chosen."""
        shares = self.masked(logits, chosen).softmax(-1)
        return torch.where(chosen, shares, torch.zeros_like(shares)).to(logits.dtype)

    def answer(self, expert: Expert, n: Float[Tensor, "t d"]) -> Float[Tensor, "t d"]:
        """``f_e(n)``."""
        gate, up = expert.reads(n)
        return expert.writes(self.act(gate) * (up if self.shift is None else self.shift(up)))

    def matrices(self) -> list[Float[Tensor, "i o"]]:
        """The weights of the router and of all experts, as live views ``[in, out]``."""
        experts = self.each if self.shared is None else (*self.each, self.shared)
        weights = [part()[0] for e in experts for part in (e.gate, e.up, e.down)]
        router: Any = self.router.weight
        return [weight.detach().T for weight in (router, *weights)]

    def shared_weight(self, n: Float[Tensor, "t d"]) -> Float[Tensor, "t 1"] | None:
        """The logit of the shared expert's weight, or None where that is one."""
        return None if self.shared_gate is None else self.shared_gate(n)


def tokens_of(chosen: Bool[Tensor, "t e"]) -> list[tuple[int, Int[Tensor, " r"]]]:
    """Per expert that is chosen at all, the tokens it answers."""
    hit = chosen.any(0).nonzero().flatten().tolist()
    return [(index, chosen[:, index].nonzero().flatten()) for index in hit]


def stacked_experts(module: Any, interleaved: bool = False) -> tuple[Expert, ...]:
    """The experts of a module that holds all their matrices stacked.

    transformers keeps ``gate_up_proj [e, 2m, d]`` with the gate first; gpt-oss keeps
    ``[e, d, 2m]`` with gate and up ``interleaved``, and biases.
    """

    def matrix(name: str, index: int, rows: slice) -> tuple[Tensor, Tensor | None]:
        weight, bias = getattr(module, name)[index], getattr(module, f"{name}_bias", None)
        weight = weight.T if interleaved else weight
        return weight[rows], None if bias is None else bias[index][rows]

    def expert(index: int) -> Expert:
        both = module.gate_up_proj[index]
        half = both.shape[1 if interleaved else 0] // 2
        gate = slice(0, None, 2) if interleaved else slice(0, half)
        up = slice(1, None, 2) if interleaved else slice(half, None)
        return Expert(
            lambda: matrix("gate_up_proj", index, gate),
            lambda: matrix("gate_up_proj", index, up),
            lambda: matrix("down_proj", index, slice(None)),
        )

    return tuple(expert(index) for index in range(len(module.down_proj)))


def dense_expert(gate: nn.Module, up: nn.Module, down: nn.Module) -> Expert:
    """An ordinary gated MLP as an expert."""

    def read(module: Any) -> Callable[[], tuple[Tensor, Tensor | None]]:
        return lambda: (module.weight, getattr(module, "bias", None))

    return Expert(read(gate), read(up), read(down))
