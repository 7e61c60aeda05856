"""What is being measured: a batch of pairs, a metric and a direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from patching.metrics import CheckedMetric
from patching.model import Model
from patching.runs import Batch
from tasks.errors import MethodError, unknown

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """A batch of pairs, a metric and a direction.

    With ``again`` backward passes hold one block at a time, and run every block twice.
    """

    model: Model
    batch: Batch
    metric: CheckedMetric
    direction: str
    again: bool = False

    @property
    def receiving(self) -> str:
        """The run that receives the patch, and at which plain gradients are taken."""
        return "clean" if self.direction == "noising" else "corrupted"

    @property
    def giving(self) -> str:
        """The other run."""
        return "corrupted" if self.direction == "noising" else "clean"

    def sign(self) -> float:
        """Turns receiving minus giving into clean minus corrupted."""
        return 1.0 if self.direction == "noising" else -1.0

    def ordered(self, clean: T, corrupted: T) -> tuple[T, T]:
        """What belongs to the receiving run, then what belongs to the giving one."""
        return (clean, corrupted) if self.direction == "noising" else (corrupted, clean)


def check_direction(direction: str) -> None:
    """Refuse a direction that is neither noising nor denoising."""
    if direction not in ("noising", "denoising"):
        raise MethodError(unknown("direction", direction, ("noising", "denoising")))
