"""Masks that add up to a budget, differentiable in the scores they are made of.

    m_i = sigmoid((s_i - tau) / T),        tau so that sum m = k

(Matryoshka attribution, arXiv 2609.25518). ``tau`` is found by bisection and depends on all scores.
With ``p = m (1 - m)``, implicit differentiation of ``sum m = k`` gives ``dtau/ds_j = p_j / sum p``,
so that from ``g = dL/dm``

    dL/ds_j = (p_j / T) (g_j - sum_i g_i p_i / sum_i p_i)
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

BISECTIONS = 60


def masks_of(scores: Float[Tensor, " n"], budget: float, temperature: float) -> Float[Tensor, " n"]:
    """The masks of a budget between 0 and ``n``, both excluded; gradients reach the scores."""
    return _Budgeted.apply(scores, budget, temperature)


def threshold(scores: Float[Tensor, " n"], budget: float, temperature: float) -> float:
    """The ``tau`` at which masks add up to the budget, to the last bit that bisection can tell."""
    values = scores.detach().double()
    # At the lower end every mask is at least budget/n, at the upper end none is more than that.
    share = budget / len(values)
    shift = temperature * float(torch.logit(torch.tensor(share, dtype=torch.float64)))
    low, high = float(values.min()) - shift, float(values.max()) - shift
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if float(torch.sigmoid((values - middle) / temperature).sum()) > budget:
            low = middle
        else:
            high = middle
    return (low + high) / 2


class _Budgeted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, budget: float, temperature: float) -> Tensor:
        tau = threshold(scores, budget, temperature)
        masks = torch.sigmoid((scores - tau) / temperature)
        ctx.save_for_backward(masks)
        ctx.temperature = temperature
        return masks

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (masks,) = ctx.saved_tensors
        (g,) = grads
        p = masks * (1 - masks)
        total = p.sum()
        mean = (g * p).sum() / total if total > 0 else g.new_zeros(())
        return p / ctx.temperature * (g - mean), None, None
