"""Scores and circuits against a reference circuit: what is known to be right, or was found before.

Everything is over the edges that were scored. AUROC is the chance that an edge of the reference
scores higher than one outside it, ties counting half: the area under the curve of true against
false positive rate from (0, 0) to (1, 1), at every threshold. MIB's code leaves (0, 0) out and
takes ten thresholds, which puts chance at about .44.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from tasks.errors import SiteError, all_faults

if TYPE_CHECKING:
    from graphs import CircuitGraph
    from patching.scores import Scores


@dataclass(frozen=True, slots=True)
class Agreement:
    """A circuit against a reference; shares are None where there is nothing to take a share of.

    precision   share of the circuit's edges that are in the reference
    recall      share of the reference's edges that are in the circuit
    jaccard     edges in both over edges in either
    auroc       of the scores that the circuit was chosen from, where known
    """

    both: int
    circuit: int
    reference: int
    precision: float | None
    recall: float | None
    jaccard: float
    auroc: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {name: getattr(self, name) for name in self.__slots__}


def agreement(
    circuit: CircuitGraph | Iterable[str],
    reference: CircuitGraph | Iterable[str],
    scores: Scores | None = None,
    absolute: bool = True,
) -> Agreement:
    """Precision, recall and Jaccard of a circuit's edges, and the AUROC of its scores.

    For what exactly differs, see :meth:`graphs.CircuitGraph.diff`.
    """
    mine, theirs = set(circuit), set(reference)
    both, either = len(mine & theirs), len(mine | theirs)
    return Agreement(
        both=both,
        circuit=len(mine),
        reference=len(theirs),
        precision=both / len(mine) if mine else None,
        recall=both / len(theirs) if theirs else None,
        jaccard=both / either if either else 1.0,
        auroc=None if scores is None else auroc(scores, theirs, absolute),
    )


def auroc(scores: Scores, reference: Iterable[str], absolute: bool = True) -> float | None:
    """How well scores tell the reference's edges (or nodes) from all others; .5 is chance.

    None where the reference holds all names or none of them.

    Raises:
        SiteError: listing names of the reference that have no score.
    """
    wanted = set(reference)
    if missing := sorted(wanted - set(scores.names)):
        raise SiteError(all_faults("the reference has edges without a score:", missing))
    truth = np.array([name in wanted for name in scores.names], dtype=bool)
    return area_under_roc(np.abs(scores.values) if absolute else scores.values, truth)


def area_under_roc(
    strengths: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]
) -> float | None:
    """The Mann-Whitney statistic of strengths in and out of the truth, as a share."""
    inside, outside = int(truth.sum()), int((~truth).sum())
    if not inside or not outside:
        return None
    _, place, counts = np.unique(strengths, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[truth].sum() - inside * (inside + 1) / 2) / (inside * outside))
