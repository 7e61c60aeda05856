"""The bar a notebook shows while something is computed, where no other progress is asked for."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import Any

AFTER = 1.0
"""Seconds that work lasts before its bar is shown."""


@dataclass(slots=True)
class NotebookBar:
    """Progress as a bar of ``tqdm.auto``: a widget where there are any, else a line of text.

    It is gone when the work is done.
    """

    bar: Any = None

    def __call__(self, done: int, total: int, what: str) -> None:
        """So much is done of the whole; a total of 0 says that it is not known."""
        if self.bar is None:
            self.bar = _bar(total, what)
        self.bar.update(done - self.bar.n)
        if total and done >= total:
            self.bar.close()


def in_notebook() -> NotebookBar | None:
    """A bar, in the kernel of a notebook; None everywhere else. Imports nothing there."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or "IPKernelApp" not in shell.config:
        return None
    return NotebookBar()


def _bar(total: int, what: str) -> Any:
    with warnings.catch_warnings():
        # Without ipywidgets tqdm warns, and draws text: no extension is needed.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    return tqdm(total=total or None, desc=what, leave=False, delay=AFTER)
