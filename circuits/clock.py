"""Wall time by step, and word of each step to what shows progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from patching.progress import Progress as Progress


@dataclass(slots=True)
class Clock:
    """Seconds spent in each named step: `with clock("scoring"): ...`.

    `progress` is called with (done, total, what); a total of 0 says that it is not known. `now`
    tells the time.
    """

    progress: Progress | None = None
    now: Callable[[], float] = time.perf_counter
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Announce the step, and add the time of the block to it."""
        if self.progress is not None:
            self.progress(0, 0, step)
        start = self.now()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + self.now() - start


@dataclass(slots=True)
class Whole:
    """One progress over all steps of a piece of work, whose costs are known beforehand.

    `costs` are those of the steps, in any unit, by what they are called and in their order. Given
    word of a step, `progress` is told how many thousandths of all steps are done.
    """

    progress: Progress
    costs: Mapping[str, float]
    done: int = 0

    def __call__(self, done: int, total: int, what: str) -> None:
        """So much of a step is done; a step without a cost is shown where the last one stood."""
        if what in self.costs:
            steps = list(self.costs)
            before = sum(self.costs[step] for step in steps[: steps.index(what)])
            part = self.costs[what] * min(done / total, 1.0) if total else 0.0
            share = (before + part) / (sum(self.costs.values()) or 1.0)
            self.done = max(self.done, round(1000 * share))
        self.progress(self.done, 1000, what)
