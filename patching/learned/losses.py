"""What a masked run is asked for: one number per prompt from its logits, to be made small.

With ``d`` the metric of the masked run and ``d*`` that of the run it is to be like: the clean run
where the best edges are kept, the corrupted one where they are the ones that are corrupted.

match        ((d - d*) / scale)^2, ``scale`` the mean of |m(full) - m(empty)| over the training
             pairs: falling short and overshooting cost the same
logit_diff   -d where edges are kept, +d where they are corrupted
accuracy     sigmoid(-d), or sigmoid(d): a soft share of wrong answers
kl           KL(run it is to be like || masked run) over all tokens, in nats
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from patching.learned.inputs import Inputs
from patching.metrics import CheckedMetric


@dataclass(frozen=True)
class Loss:
    """A loss by name, for a metric, with the scale that ``match`` divides by."""

    name: str
    metric: CheckedMetric
    scale: float = 1.0

    def __call__(
        self, logits: Float[Tensor, "b v"], inputs: Inputs, keep: bool
    ) -> Float[Tensor, " b"]:
        """The loss of every prompt."""
        if self.name == "kl":
            wanted = inputs.log_full if keep else inputs.log_empty
            assert wanted is not None
            return (wanted.exp() * (wanted - logits.log_softmax(-1))).sum(-1)
        value = self.metric(logits, inputs.pairs)
        sign = -1.0 if keep else 1.0
        if self.name == "logit_diff":
            return sign * value
        if self.name == "accuracy":
            return torch.sigmoid(sign * value)
        return ((value - (inputs.full if keep else inputs.empty)) / self.scale) ** 2

    def mean(self, inputs: Inputs, keep: bool) -> Callable[[Tensor], Tensor]:
        """The mean over prompts, as a function of the logits."""
        return lambda logits: self(logits, inputs, keep).mean()
