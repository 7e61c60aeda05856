"""Word of work in progress, to what shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from patching.notebook_bar import in_notebook

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what); a total of 0 says that it is not known."""

Tell = Callable[[], None]
"""Called after every piece of work."""


Step = Callable[[int], None]
"""Called with how many steps of a piece are done."""


def nobody() -> None:
    """For work that nobody counts."""


def unheard(step: int) -> None:
    """For steps that nobody counts."""


@dataclass(slots=True)
class Count:
    """Counts work whose whole is known beforehand, and says so: `count()` after every piece.

    Where nothing shows progress, a notebook does (:mod:`patching.notebook_bar`).
    The first word of it, that nothing is done yet, is given when the count is made. Work that is
    done a second time, because memory ran out the first time, is not told of again.
    """

    progress: Progress | None
    total: int
    what: str
    done: int = 0
    _told: int = -1

    def __post_init__(self) -> None:
        if self.progress is None:
            self.progress = in_notebook()
        self.reach(0)

    def __call__(self, pieces: int = 1) -> None:
        """So many pieces more are done."""
        self.reach(self.done + pieces)

    def reach(self, done: int) -> None:
        """So many pieces are done in all."""
        self.done = done
        if self.progress is not None and done > self._told:
            self._told = done
            self.progress(done, self.total, self.what)
