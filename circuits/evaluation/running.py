"""How circuits are run: by what they are measured, and what stands in outside them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patching.ablation.kinds import OUTSIDE, Ablation, outside
from patching.sweep import Sweep
from tasks.errors import MethodError

if TYPE_CHECKING:
    from patching.ablation.means import MeanActivations
    from patching.model import Model
    from tasks import PromptPairs

AVERAGED = tuple(kind for kind in OUTSIDE if Ablation(kind).means_by is not None)
"""The ablations that put means there."""


@dataclass(frozen=True)
class Running(Sweep):
    """What every function that runs circuits needs to know beside the circuits.

    metric    by name; None for the prompts' own
    ablation  what stands in for everything outside a circuit, by name
    means     those of a stated set of prompts, where the ablation takes any
    """

    batch_size: int = 64
    metric: str | None = None
    ablation: str = "corrupted"
    means: MeanActivations | None = None

    @classmethod
    def over(cls, options: Sweep, **changes: Any) -> Running:
        """Circuits run in the loops that the options say."""
        plain = {field.name: getattr(options, field.name) for field in fields(Sweep)}
        return cls(**plain, **changes)

    def settled(self, model: Model, pairs: PromptPairs, nodes: str = "heads") -> Running:
        """With means, where they are needed: those given, or those of the pairs' clean prompts.

        Raises:
            MethodError: the means given are of another model, task, or length of prompts.
        """
        from patching.ablation.values import settled_means
        from patching.nodes.deltas import points_of
        from patching.nodes.layout import layout_of

        kind, points = outside(self.ablation), points_of(layout_of(model.anatomy, nodes))
        return replace(self, means=settled_means(model, pairs, kind, points, self.means, self))

    def to_json(self) -> dict[str, Any]:
        """The ablation, and what its means are of, as plain values."""
        if self.means is None:
            return {"ablation": self.ablation, "means": None}
        origin = self.means.origin
        source = {"task": origin.task, "n": origin.n, "sha256": origin.prompts}
        return {"ablation": self.ablation, "means": source}


PLAIN = Running()


def fitting(ablation: str, path: Path) -> MeanActivations:
    """The means of a file, if the ablation takes such means.

    Raises:
        MethodError: it takes none, or others.
        FormatError: the file holds no means.
    """
    from patching.ablation.means import MeanActivations

    by = averaged(ablation, f", so it has no use for {path}")
    means = MeanActivations.load(path)
    if means.by != by:
        raise MethodError(
            f"ablation '{ablation}' needs means by {by}, and {path} has means by {means.by}"
        )
    return means


def averaged(ablation: str, consequence: str = "") -> str:
    """What the means of an ablation are distinguished by.

    Raises:
        MethodError: an unknown ablation, or one that puts no means there.
    """
    by = outside(ablation).means_by
    if by is None:
        raise MethodError(
            f"ablation '{ablation}' puts no means there{consequence}; choose from: "
            f"{', '.join(AVERAGED)}"
        )
    return by
