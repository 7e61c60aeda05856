"""gpt-oss: attention sinks, and experts with biases whose gate is cut off."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from patching.experts import Experts, stacked_experts
from patching.families import rotary
from patching.families.description import Family


def gpt_oss(config: Any) -> Family:
    """gpt-oss 20B and 120B, in a number type that is not quantised."""
    return Family(
        sinks="self_attn.sinks",
        tables=rotary.halves_from_angles,
        experts=_experts,
    )


def _experts(layer: Any, config: Any) -> Experts:
    stacked = layer.mlp.experts
    alpha, limit = float(stacked.alpha), float(stacked.limit)

    def act(gate: Tensor) -> Tensor:
        cut = gate.clamp(max=limit)
        return cut * torch.sigmoid(cut * alpha)

    return Experts(
        router=layer.mlp.router,
        top_k=int(config.num_experts_per_tok),
        renormalised=True,
        each=stacked_experts(stacked, interleaved=True),
        act=act,
        shift=lambda up: up.clamp(-limit, limit) + 1,
    )


FAMILIES = {"gpt_oss": gpt_oss}
