"""How circuits are run: by what they are measured, and what stands in outside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from circuits.evaluation.outside import CORRUPTED, Outside

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
    """

    metric: str | None = None
    outside: Outside = CORRUPTED
    batch_size: int = 64
    progress: Progress | None = None

    def settled(self, model: Model, pairs: PromptPairs) -> Running:
        """With the means that the ablation needs; see :meth:`Outside.settled`."""
        return replace(self, outside=self.outside.settled(model, pairs))


PLAIN = Running()
