"""Wall time by step, and word of each step to whoever shows progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Progress = Callable[[int, int, str], None]


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


@dataclass(slots=True)
class Count:
    """Counts work whose whole is known beforehand, and says so: `count()` after every piece.

    The first word of it, that nothing is done yet, is given when the count is made.
    """

    progress: Progress | None
    total: int
    what: str
    done: int = 0

    def __post_init__(self) -> None:
        self(0)

    def __call__(self, pieces: int = 1) -> None:
        """So many pieces more are done."""
        self.done += pieces
        if self.progress is not None:
            self.progress(self.done, self.total, self.what)
