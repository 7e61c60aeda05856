"""Wall time by step, and word of each step to whoever shows progress."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from patching.progress import Progress as Progress


@dataclass(slots=True)
class Clock:
    """Seconds spent in each named step: `with clock("scoring"): ...`.

    `progress` is called with (done, total, what); a total of 0 says that it is not known.
    """

    progress: Progress | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Announce the step, and add the time of the block to it."""
        if self.progress is not None:
            self.progress(0, 0, step)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start
