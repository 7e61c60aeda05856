"""Word of work in progress, to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what); a total of 0 says that it is not known."""

Tell = Callable[[], None]
"""Called after every piece of work."""


def nobody() -> None:
    """For work that nobody counts."""


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
