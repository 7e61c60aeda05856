"""Where families keep a mixture of experts, and how its router weights them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from patching.experts import Experts, dense_expert, stacked_experts


def mixture(
    router: str = "gate",
    experts: str = "experts",
    at: str = "mlp",
    shared: bool = False,
    renormalised: bool | None = None,
) -> Callable[[Any, Any], Experts | None]:
    """Experts at the layer's part ``at``; None for a layer that has an ordinary MLP instead.

    ``renormalised`` is the configuration's ``norm_topk_prob`` unless it is said.
    """

    def of(layer: Any, config: Any) -> Experts | None:
        block = getattr(layer, at)
        if not hasattr(block, experts):
            return None
        stacked, beside = getattr(block, experts), block.shared_expert if shared else None
        own = bool(getattr(config, "norm_topk_prob", True))
        return Experts(
            router=getattr(block, router),
            top_k=int(config.num_experts_per_tok),
            renormalised=own if renormalised is None else renormalised,
            each=stacked_experts(stacked),
            act=stacked.act_fn,
            shared=None
            if beside is None
            else dense_expert(beside.gate_proj, beside.up_proj, beside.down_proj),
            shared_gate=block.shared_expert_gate if shared else None,
        )

    return of
