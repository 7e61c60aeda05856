"""How many edges are enough: the smallest circuits of a ranking that give a share of the answer.

Sizes are doubled until a circuit gives the largest share asked for, then the step that crosses each
share is divided. Faithfulness need not rise with every edge; the size told is the first that was
run and reached the share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.evaluation.curves import at_counts
from circuits.evaluation.outcomes import Outcomes, measure
from circuits.evaluation.running import PLAIN, Running
from circuits.results.intervals import Ends
from tasks.errors import counted

if TYPE_CHECKING:
    from graphs import CircuitGraph
    from patching.model import Model
    from patching.nodes.edges import EdgeSet
    from patching.scores import Scores
    from tasks import PromptPairs

SHARES = (0.5, 0.85, 0.95)
GOOD = 0.85
"""The share of the answer from which a circuit is called enough."""

AT_ONCE, DIVIDED = 4, 4
"""How many doubled sizes are run at once, and into how many parts the step across a share goes."""


@dataclass(frozen=True)
class Needed:
    """A share of the answer, the size that gave it first, and what it gave.

    ``count`` are ranked edges (or nodes) taken, ``kept`` those of them that connect input to
    logits (of nodes: all of them).
    """

    share: float
    count: int
    kept: int
    faithfulness: float


@dataclass(frozen=True)
class Enough:
    """Sizes that suffice on some prompts, and what the circuit shown gives on the same.

    unit           edge or node
    considered     how many were ranked
    n              number of prompts
    faithfulness, interval   of the circuit shown, with a bootstrap interval (95 %)
    size           how many edges or nodes the circuit shown has
    """

    needed: tuple[Needed, ...]
    unit: str
    considered: int
    n: int
    size: int
    faithfulness: float
    interval: Ends | None

    @property
    def enough(self) -> bool:
        """Whether the circuit shown gives at least :data:`GOOD` of the answer."""
        return self.faithfulness >= GOOD

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {
            "prompts": self.n,
            "unit": self.unit,
            "considered": self.considered,
            "needed": [vars_of(each) for each in self.needed],
            "circuit": {
                "size": self.size,
                "faithfulness": self.faithfulness,
                "interval": self.interval,
            },
            "share_asked_for": GOOD,
            "enough": self.enough,
            "told": self.told,
        }

    @property
    def told(self) -> str:
        """The same in one sentence or two."""
        sizes = [f"{counted(each.kept, self.unit)} for {each.share:g}" for each in self.needed]
        took = f"of the answer to {counted(self.n, 'new prompt')} it takes {', '.join(sizes)}"
        ends = "" if self.interval is None else " ({:.1%} to {:.1%})".format(*self.interval)
        mine = f"the {counted(self.size, self.unit)} shown give {self.faithfulness:.1%}{ends}"
        if self.enough:
            return f"{took}; {mine}: enough"
        wanted = next((each for each in self.needed if each.share == GOOD), None)
        more = "" if wanted is None else f"; --faithful {GOOD} keeps as many as it takes"
        return f"{took}; {mine}: not enough{more}"


def enough(
    model: Model,
    pairs: PromptPairs,
    scores: Scores,
    graph: CircuitGraph,
    edges: Sequence[str],
    running: Running = PLAIN,
) -> Enough | None:
    """Sizes that suffice on some prompts, and what a circuit, of these edges, gives on them.

    None where the model does not do the task on these prompts.
    """
    absolute = graph.info.selection.absolute
    needed = sizes_needed(model, pairs, scores, absolute=absolute, running=running)
    if not needed:
        return None
    shown = measure(model, pairs, [edges], running)
    return Enough(
        needed,
        unit=graph.level,
        considered=len(scores),
        n=shown.n,
        size=len(graph),
        faithfulness=float(shown.faithfulness[0]),
        interval=shown.interval(0),
    )


def vars_of(needed: Needed) -> dict[str, Any]:
    """Plain values of one size."""
    names = ("share", "count", "kept", "faithfulness")
    return {name: getattr(needed, name) for name in names}


def sizes_needed(
    model: Model,
    pairs: PromptPairs,
    scores: Scores,
    shares: Sequence[float] = SHARES,
    absolute: bool = True,
    running: Running = PLAIN,
) -> tuple[Needed, ...]:
    """For every share the smallest size found to give it; none where the model does not do it.

    Raises:
        MethodError: scores of something else than edges or nodes.
    """
    sizes = _Sizes(model, pairs, scores, absolute, running)
    if not sizes.doubled(max(shares)):
        return ()
    for share in sorted(shares):
        sizes.divided(share)
    # Only now: what was run for one share may be smaller than what another took before.
    return tuple(sizes.first(share) for share in sorted(shares))


class _Sizes:
    """Sizes that were run, with their circuits' edges and faithfulness."""

    def __init__(
        self, model: Model, pairs: PromptPairs, scores: Scores, absolute: bool, running: Running
    ) -> None:
        self.model, self.pairs, self.scores = model, pairs, scores
        self.absolute, self.running = absolute, running
        self.known: dict[int, tuple[int, float]] = {}

    def doubled(self, most: float) -> bool:
        """Run 1, 2, 4 and so on until one gives ``most``; whether faithfulness is defined."""
        every = len(self.scores)
        sizes = [2**i for i in range(every.bit_length()) if 2**i < every] + [every]
        for start in range(0, len(sizes), AT_ONCE):
            if not self._run(sizes[start : start + AT_ONCE]):
                return False
            if max(share for _, share in self.known.values()) >= most:
                break
        return True

    def divided(self, share: float) -> None:
        """Run sizes between the first that gives a share and the one before it."""
        above = self._reached(share)
        below = max((size for size in self.known if size < above), default=0)
        between = np.linspace(below, above, DIVIDED + 1).round().astype(int)[1:-1]
        self._run(sorted({int(size) for size in between} - {0, *self.known}))

    def first(self, share: float) -> Needed:
        """The smallest size run that gives a share."""
        size = self._reached(share)
        return Needed(share, size, *self.known[size])

    def _reached(self, share: float) -> int:
        reached = [size for size, (_, found) in sorted(self.known.items()) if found >= share]
        # All edges are the clean run, up to the rounding of sums.
        return reached[0] if reached else max(self.known)

    def _run(self, sizes: Sequence[int]) -> bool:
        if not sizes:
            return True
        circuits: Sequence[EdgeSet] = at_counts(self.scores, sizes, self.absolute)
        outcomes: Outcomes = measure(self.model, self.pairs, list(circuits), self.running)
        if not outcomes.defined:
            return False
        for size, circuit, share in zip(sizes, circuits, outcomes.faithfulness, strict=True):
            kept = len(circuit) if self.scores.level == "edge" else size
            self.known[size] = kept, float(share)
        return True
