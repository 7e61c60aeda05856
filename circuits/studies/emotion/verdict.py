"""Whether a study found what its paper found: each claim as a number, and what would be enough.

The claims are those of Wang et al. 2025, arXiv 2510.11328: driving the circuit shows a label as
often as asking for it does, and at least as often as steering the stream; silencing it takes that
away; random components of the same count do neither. What is enough is this project's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from circuits.results.intervals import Ends, draw, percentiles
from circuits.studies.emotion.trial import Trial

CLAIMS = (
    ("driving the circuit less steering", "circuit", "steering", "at least", 0.0),
    ("driving the circuit less prompting", "circuit", "prompting", "at least", -2.0),
    ("driving the circuit less random components", "circuit", "random components", "above", 0.0),
    (
        "lost when the circuit is silenced",
        "prompting",
        "prompting, circuit ablated",
        "at least",
        50.0,
    ),
    (
        "lost when random components are silenced",
        "prompting",
        "prompting, random components ablated",
        "at most",
        5.0,
    ),
)
"""What is claimed, of which way less which, and how many points are enough."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A difference in points between conditions, its 95 % interval, and whether it is enough."""

    name: str
    value: float
    interval: Ends
    limit: str
    enough: float

    @property
    def holds(self) -> bool:
        """Whether the value itself is on the right side of the limit."""
        tests = {
            "at least": self.value >= self.enough,
            "above": self.value > self.enough,
            "at most": self.value <= self.enough,
        }
        return tests[self.limit]

    @property
    def sure(self) -> bool:
        """Whether its whole interval is on the same side of the limit as the value."""
        low, high = self.interval
        return not low < self.enough < high

    def to_json(self) -> dict[str, Any]:
        """Plain values for the report."""
        return {
            "claim": self.name,
            "points": self.value,
            "interval": list(self.interval),
            "asked": f"{self.limit} {self.enough:g}",
            "holds": self.holds,
            "sure": self.sure,
        }


def claims(trials: Sequence[Trial], seed: int = 0) -> tuple[Claim, ...]:
    """Every claim on the same test prompts, with intervals over their groups and over draws."""
    hits = {trial.name: trial.hits for trial in trials}
    return tuple(
        Claim(name, *difference(hits[one], hits[other], seed), limit, enough)
        for name, one, other, limit, enough in CLAIMS
    )


def difference(
    one: Float[np.ndarray, "draws labels groups"],
    other: Float[np.ndarray, "others labels groups"],
    seed: int = 0,
) -> tuple[float, Ends]:
    """Points by which the share of hits differs, and its percentile bootstrap interval (95 %).

    Groups of prompts are drawn again, the same for both and for all labels, and draws of random
    components where there are several.
    """
    rng = np.random.default_rng(seed)
    groups = draw(one.shape[2], rng)
    shares = []
    for hits in (one, other):
        by_group, draws = hits.mean(1), draw(len(hits), rng)
        shares.append(by_group[draws[:, :, None], groups[:, None, :]].mean((1, 2)))
    low, high = percentiles(shares[0] - shares[1]) or (np.nan, np.nan)
    return 100 * float(one.mean() - other.mean()), (100 * low, 100 * high)
