"""How circuits are run: by what they are measured, and what stands in outside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from circuits.evaluation.outside import CORRUPTED, Outside
from patching.progress import Count

if TYPE_CHECKING:
    from circuits.clock import Progress
    from patching.model import Model
    from tasks import PromptPairs


@dataclass(frozen=True)
class Running:
    """What every function that runs circuits needs to know beside the circuits.

    metric      by name; None for the prompts' own
    outside     what stands in for everything outside a circuit
    batch_size  prompt pairs per forward pass
    progress    is called with (done, total, what)
    count       counts circuits run on a batch; without one, each function counts its own
    """

    metric: str | None = None
    outside: Outside = CORRUPTED
    batch_size: int = 64
    progress: Progress | None = None
    count: Count | None = None

    def settled(self, model: Model, pairs: PromptPairs) -> Running:
        """With the means that the ablation needs; see :meth:`Outside.settled`."""
        return replace(self, outside=self.outside.settled(model, pairs))

    def counting(self, circuits: int, pairs: PromptPairs, what: str = "running circuits") -> Count:
        """The count in force, or one of so many circuits on all batches of these pairs."""
        batches = -(-len(pairs) // self.batch_size)
        return self.count or Count(self.progress, circuits * batches, what)


PLAIN = Running()
