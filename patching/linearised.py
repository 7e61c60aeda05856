"""A linearised model: the passes that give gradients, and both runs' values to go with them.

Every gradient method scores a site by ``delta . g`` with ``delta = z_clean - z_corrupted``. They
differ in the passes that give ``g`` (:mod:`patching.linearise`, :mod:`patching.paths`); what is
scored with them (nodes, finer sites, edges) is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from patching.norms import precise
from patching.ops import PLAIN, Ops, Point
from patching.runs import Gradients, record_gradients
from patching.setting import Setting


@dataclass(frozen=True)
class Kinds:
    """Kinds of points that scores are made of.

    read    values of both runs are kept
    scored  their sites are scored
    graded  gradients are taken; those that are read where none are named
    here    values are kept of the runs that gradients are taken at, or made of
    alone   a score needs the gradient at the scored point itself and at no other
    """

    read: tuple[str, ...]
    scored: tuple[str, ...]
    graded: tuple[str, ...] = ()
    here: tuple[str, ...] = ()
    alone: bool = False

    @classmethod
    def scoring(cls, kinds: tuple[str, ...]) -> Kinds:
        """Kinds that are all scored."""
        return cls(kinds, kinds, alone=True)

    def also(self, *kinds: str) -> Kinds:
        """With more kinds to read."""
        return replace(self, read=tuple(dict.fromkeys((*self.read, *kinds))))

    @property
    def gradients(self) -> tuple[str, ...]:
        """The kinds at which gradients are taken."""
        return self.graded or self.read

    @property
    def kept(self) -> tuple[str, ...]:
        """The kinds whose values are kept of a run with gradients."""
        return (*self.read, *self.here)


@dataclass(frozen=True)
class Pass:
    """One backward pass: its weight in the sum, its gradients, and its derivatives of norms.

    ``covers`` names the points that the pass speaks for; None for all of them.
    """

    weight: float
    gradients: Gradients
    ops: Ops
    covers: frozenset[Point] | None = None

    def speaks_for(self, point: Point) -> bool:
        """Whether scores of a point's sites are made from this pass."""
        return self.covers is None or point in self.covers


@dataclass(frozen=True)
class Linearisation:
    """All that scores are made of: both runs' values at the wanted points, and the passes.

    ``passes`` is consumed once, and may compute each pass when it is asked for. With ``dropped``
    the first pass gives the sign and the mean absolute score of the others the size (GradDrop).
    """

    clean: dict[Point, Tensor]
    corrupted: dict[Point, Tensor]
    metric_clean: Tensor
    metric_corrupted: Tensor
    passes: Iterator[Pass]
    dropped: bool = False

    def delta(self, point: Point) -> Tensor:
        """``z_clean - z_corrupted`` at a point, in float32 or better."""
        return precise(self.clean[point]) - precise(self.corrupted[point])


Linearise = Callable[[Setting, Kinds], Linearisation]


def gradients_at(
    setting: Setting,
    kinds: Kinds,
    ops: Ops = PLAIN,
    *,
    values: Iterable[str] | None = None,
    **changes: Any,
) -> Gradients:
    """Gradients at the receiving run, changed as :func:`patching.runs.record_gradients` may be."""
    s, graded = setting, kinds.gradients
    run = s.model, s.batch, s.receiving, s.metric, graded, ops
    kept = kinds.kept if values is None else values
    return record_gradients(*run, values=kept, again=s.again, **changes)
