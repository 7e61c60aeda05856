"""How a learned ranking is trained: its options, checked. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from tasks.errors import MethodError, all_faults

METHOD = "learned"

DIFFERENCES = ("logit_diff", "prob_diff")
"""Metrics that are above zero where the answer beats the counterfactual."""

NEEDS = {"logit_diff": DIFFERENCES[:1], "accuracy": DIFFERENCES}
"""The metrics that a loss can be made of; any where it has none here."""

RATES = {"budget": 0.1, "hard_concrete": 0.8, "uniform_window": 0.1}
"""The learning rate that goes with each kind of mask."""

ALL_TRAINED, TRAINED = 20_000, 0.1
"""Up to how many edges or nodes all are trained, and what share of them above that."""


@dataclass(frozen=True)
class Settings:
    """The options of a training; see ``circuits methods``."""

    steps: int
    batch: int
    loss: str
    masks: str
    learning_rate: float
    temperature: float
    budgets: str
    uniform: float
    coin: float
    keep: float
    penalty: float
    candidates: float
    rest: str
    seed: int

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """The filled options of the method.

        Raises:
            MethodError: listing numbers that cannot be meant.
        """
        made = cls(**{field.name: options[field.name] for field in fields(cls)})
        if faults := made._faults():
            raise MethodError(all_faults("a ranking cannot be learned like this:", faults))
        return made

    def _faults(self) -> list[str]:
        least = {"steps": 1, "batch": 1, "seed": 0, "learning_rate": 0, "penalty": 0}
        faults = [
            f"{name} is {getattr(self, name)}; give at least {low}"
            for name, low in least.items()
            if getattr(self, name) < low
        ]
        if self.temperature <= 0:
            faults.append(f"temperature is {self.temperature}; give a number above 0")
        for name in ("uniform", "coin", "candidates"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                faults.append(f"{name} is {value}; give a share between 0 and 1")
        if not 0 < self.keep < 1:
            faults.append(f"keep is {self.keep}; give a share between 0 and 1, neither of them")
        return faults

    @property
    def rate(self) -> float:
        """The learning rate: the one given, or the one that goes with the masks."""
        return self.learning_rate or RATES[self.masks]

    def check_metric(self, metric: str) -> None:
        """Refuse a loss that a metric cannot give.

        Raises:
            MethodError: see above.
        """
        allowed = NEEDS.get(self.loss)
        if allowed is None or metric in allowed:
            return
        raise MethodError(
            f"the loss '{self.loss}' is made of the metric {' or '.join(allowed)}, and the metric "
            f"here is {metric}; take loss=match, which goes with any metric, or another metric"
        )

    def count(self, every: int) -> int:
        """How many of all edges or nodes are trained."""
        share = self.candidates or (1.0 if every <= ALL_TRAINED else TRAINED)
        return max(2, min(every, round(share * every)))
