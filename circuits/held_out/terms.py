"""On what terms a run's circuit is tested: prompts, what stands in outside, how often redrawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from circuits.evaluation.running import Running, fitting
from patching.ablation.kinds import outside
from tasks.errors import RunError


@dataclass(frozen=True)
class Terms:
    """What `circuits evaluate` and `circuits compare` have in common.

    n                  held-out prompt pairs
    seed               draws prompts, resamples, cuts and random circuits
    prompts            a file of other prompt pairs instead of the task's own
    allow_other_model  accept other weights of the same shape
    ablation           what stands in outside circuits; None for what the run was tested with
    means              a file of means for it; None for the held-out prompts' own
    rediscoveries            how often to discover again on a resample of the discovery's prompts
    batch_size         prompt pairs per forward pass
    skip_bad           whether rows of `prompts` that have a fault are left out, not refused

    Raises:
        RunError: numbers that cannot be meant.
    """

    n: int = 64
    seed: int = 0
    prompts: Path | None = None
    allow_other_model: bool = False
    ablation: str | None = None
    means: Path | None = None
    rediscoveries: int = 0
    batch_size: int = 64
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if self.n < 2 or self.seed < 0 or self.batch_size < 1:
            raise RunError(
                f"--n {self.n}, --seed {self.seed}, --batch-size {self.batch_size}: give at least "
                f"2 prompts, a seed of at least 0 and a batch size of at least 1"
            )
        if self.rediscoveries < 0 or self.rediscoveries == 1:
            raise RunError(f"--rediscoveries {self.rediscoveries}: give 0 for none, or at least 2")

    def running(self, default: str, **others: Any) -> Running:
        """How circuits are run; outside them stands by default what the run was tested with.

        Raises:
            MethodError: an unknown ablation, or means of another kind than it takes.
            FormatError: the file holds no means.
        """
        name = outside(self.ablation or default).name
        means = None if self.means is None else fitting(name, self.means)
        return Running(self.batch_size, ablation=name, means=means, **others)
