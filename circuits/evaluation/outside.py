"""What stands in for everything outside a circuit: an ablation, and the means that it needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patching.ablations import OUTSIDE, Ablation, outside
from tasks.errors import MethodError

if TYPE_CHECKING:
    from patching.mean_activations import MeanActivations
    from patching.model import Model
    from tasks import PromptPairs

AVERAGED = tuple(kind for kind in OUTSIDE if Ablation(kind).means_by is not None)
"""The ablations that put means there."""


@dataclass(frozen=True)
class Outside:
    """An ablation by name, with means of a stated set of prompts where it takes them."""

    ablation: str = "corrupted"
    means: MeanActivations | None = None

    @classmethod
    def read(cls, ablation: str, means: Path | None = None) -> Outside:
        """The ablation of that name, with the means of a file.

        Raises:
            MethodError: an unknown ablation, or means of another kind than it takes.
            FormatError: the file holds no means.
        """
        name = outside(ablation).name
        if means is None:
            return cls(name)
        return cls(name, fitting(name, means))

    def settled(self, model: Model, pairs: PromptPairs) -> Outside:
        """With means, where they are needed: those given, or those of the pairs' clean prompts.

        Raises:
            MethodError: the means given are of another model, task, or length of prompts.
        """
        from patching.circuit_run import sender_points
        from patching.mean_estimates import estimate_means

        by = outside(self.ablation).means_by
        points = sender_points(model.anatomy)
        if self.means is not None:
            self.means.check(model, pairs, points)
            return self
        return replace(self, means=estimate_means(model, pairs, points, by)) if by else self

    def to_json(self) -> dict[str, Any]:
        """The ablation, and what its means are of, as plain values."""
        if self.means is None:
            return {"ablation": self.ablation, "means": None}
        origin = self.means.origin
        about = {"task": origin.task, "n": origin.n, "sha256": origin.prompts}
        return {"ablation": self.ablation, "means": about}


CORRUPTED = Outside()


def fitting(ablation: str, path: Path) -> MeanActivations:
    """The means of a file, if the ablation takes such means.

    Raises:
        MethodError: it takes none, or others.
        FormatError: the file holds no means.
    """
    from patching.mean_activations import MeanActivations

    by = averaged(ablation, f", so it has no use for {path}")
    means = MeanActivations.load(path)
    if means.by != by:
        raise MethodError(
            f"ablation '{ablation}' needs means by {by}, and {path} has means by {means.by}"
        )
    return means


def averaged(ablation: str, consequence: str = "") -> str:
    """What the means of an ablation are told apart by.

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
