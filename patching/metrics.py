"""Metrics: one number per prompt from the logits at the last position.

Every metric is larger for more of the clean answer, and differentiable. Where a prompt has
several right or wrong answers, logits are averaged and probabilities are added over them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tasks.errors import MethodError, unknown
from tasks.pairs import PromptPairs
from tasks.spelled import SEQUENCE

Metric = Callable[[Tensor, PromptPairs], Tensor]


def logit_diff(logits: Float[Tensor, "n v"], pairs: PromptPairs) -> Float[Tensor, " n"]:
    """Mean logit of the answers minus mean logit of the counterfactual answers, in logits."""
    return _mean_at(logits, *_ids(pairs.answer, logits)) - _mean_at(
        logits, *_ids(pairs.counterfactual, logits)
    )


def prob_diff(logits: Float[Tensor, "n v"], pairs: PromptPairs) -> Float[Tensor, " n"]:
    """Probability of the answers minus that of the counterfactual answers, -1 to 1."""
    probs = logits.softmax(-1)
    return _sum_at(probs, *_ids(pairs.answer, logits)) - _sum_at(
        probs, *_ids(pairs.counterfactual, logits)
    )


def answer_logit(logits: Float[Tensor, "n v"], pairs: PromptPairs) -> Float[Tensor, " n"]:
    """Mean logit of the answers minus the mean over the vocabulary, in logits."""
    return _mean_at(logits, *_ids(pairs.answer, logits)) - logits.mean(-1)


def log_prob(logits: Float[Tensor, "n v"], pairs: PromptPairs) -> Float[Tensor, " n"]:
    """Log-probability of the answers, in nats."""
    index, used = _ids(pairs.answer, logits)
    log_probs = logits.log_softmax(-1).gather(-1, index)
    return log_probs.masked_fill(~used, float("-inf")).logsumexp(-1)


def sequence_log_prob(logits: Float[Tensor, "n v"], pairs: PromptPairs) -> Float[Tensor, " n"]:
    """Log-probability of the whole answer, teacher-forced, in nats.

    Of answers of several tokens the pairs hold a row for every token
    (:meth:`PromptPairs.each_token`), read after the right ones before it: the log-probability of
    an answer is the sum over its rows, and a mean over rows is that of a token of an answer.

    Raises:
        MethodError: answers of several tokens without such rows would be measured only in part.
    """
    if pairs.metric != SEQUENCE and pairs.in_part:
        raise MethodError(
            f"{SEQUENCE} measures whole answers, and some of these are several tokens; give it "
            f"pairs.each_token(), which has a row for every one"
        )
    return log_prob(logits, pairs)


METRICS: dict[str, Metric] = {
    "logit_diff": logit_diff,
    "prob_diff": prob_diff,
    "answer_logit": answer_logit,
    "log_prob": log_prob,
    SEQUENCE: sequence_log_prob,
}


def get_metric(metric: str | Metric) -> Metric:
    """A metric by name, or the function itself.

    Raises:
        MethodError: no metric has that name.
    """
    if callable(metric):
        return metric
    if not isinstance(metric, str) or metric not in METRICS:
        raise MethodError(unknown("metric", str(metric), METRICS))
    return METRICS[metric]


def metric_name(metric: str | Metric) -> str:
    """The name that scores carry for a metric."""
    return metric if isinstance(metric, str) else getattr(metric, "__name__", "custom")


@dataclass(frozen=True)
class CheckedMetric:
    """A metric whose results are checked: shape ``[n]``, finite, and differentiable."""

    name: str
    function: Metric

    def __call__(self, logits: Float[Tensor, "n v"], pairs: PromptPairs) -> Float[Tensor, " n"]:
        """The metric of every prompt, in units of the metric."""
        value = self.function(logits.float() if logits.dtype != torch.float64 else logits, pairs)
        if not isinstance(value, Tensor) or value.shape != (len(pairs),):
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise MethodError(
                f"metric '{self.name}' must give one number per prompt, a tensor of shape "
                f"({len(pairs)},); it gave {given}"
            )
        if logits.requires_grad and not value.requires_grad:
            raise MethodError(
                f"metric '{self.name}' is not differentiable: its result does not depend on the "
                f"logits through torch; avoid .detach(), .item() and argmax, or use the method "
                f"'activation'"
            )
        if not torch.isfinite(value).all():
            bad = int((~torch.isfinite(value)).nonzero()[0, 0])
            raise MethodError(f"metric '{self.name}' is {value[bad].item()} for prompt {bad}")
        return value if value.is_floating_point() else value.float()


def check_metric(metric: str | Metric) -> CheckedMetric:
    """The metric with its results checked at every call."""
    return CheckedMetric(metric_name(metric), get_metric(metric))


def _ids(ids: np.ndarray, like: Tensor) -> tuple[Int[Tensor, "n k"], Bool[Tensor, "n k"]]:
    index = torch.tensor(ids, device=like.device)
    return index.clamp_min(0), index >= 0


def _sum_at(values: Tensor, index: Tensor, used: Tensor) -> Tensor:
    return (values.gather(-1, index) * used).sum(-1)


def _mean_at(values: Tensor, index: Tensor, used: Tensor) -> Tensor:
    return _sum_at(values, index, used) / used.sum(-1)
