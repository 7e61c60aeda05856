"""Wall time by step, and word of each step to whoever shows progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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
