"""Who edits a model's weights and who computes with them: one thread edits, or any number compute.

Weights are changed in place, so a computation beside an edit of another thread would be wrong
without a sign of it. One of the two is refused, or waits as long as ``Model.patience`` says.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from tasks.errors import EditError

WAY = "wait for it, or set Model.patience to the seconds to wait"

P = ParamSpec("P")
T = TypeVar("T")


def undisturbed(compute: Callable[P, T]) -> Callable[P, T]:
    """A function of a model, or a method of what has one, beside which no other thread edits.

    Raises:
        EditError: as for :meth:`InUse.reading`.
    """

    @wraps(compute)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        first: Any = args[0]
        with getattr(first, "model", first).reading():
            return compute(*args, **kwargs)

    return guarded


@dataclass(eq=False)
class OpenEdit:
    """An edit in force: the thread that made it, and how it is undone."""

    thread: int
    undo: Callable[[], None]
    ended: bool = False


class InUse:
    """The edits of one model that are in force, and the threads that compute with it."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._edits: list[OpenEdit] = []
        self._readers: Counter[int] = Counter()

    @contextmanager
    def reading(self, patience: float) -> Iterator[None]:
        """A computation of this thread, beside which no other thread edits.

        Raises:
            EditError: another thread's edit is in force, and stays so for ``patience`` seconds.
        """
        me = threading.get_ident()
        with self._change:
            # Who is in the middle of a computation holds the edits of others off already.
            if not self._readers[me] and not self._waited(lambda: self._is_mine(me), patience):
                raise EditError(f"another thread's edit of this model's weights is in force; {WAY}")
            self._readers[me] += 1
        try:
            yield
        finally:
            with self._change:
                self._readers[me] -= 1
                self._readers += Counter()
                self._change.notify_all()

    @contextmanager
    def editing(self, undo: Callable[[], None], patience: float) -> Iterator[None]:
        """An edit of this thread, made in the block and undone after it.

        Edits end in the reverse order of their beginning. One that is closed before a later one
        stays in force, so that the later one keeps what it was made on, and ends with that.

        Raises:
            EditError: another thread edits or computes, for longer than ``patience`` seconds; this
                thread is in the middle of a computation; or a later edit is still in force.
        """
        me = threading.get_ident()
        edit = OpenEdit(me, undo)
        with self._change:
            if self._readers[me]:
                raise EditError("weights cannot be edited in the middle of a computation with them")
            if not self._waited(lambda: self._is_free(me), patience):
                what = "computes with" if self._is_mine(me) else "edits the weights of"
                raise EditError(f"another thread {what} this model; {WAY}")
            self._edits.append(edit)
        try:
            yield
        finally:
            self._end(edit)

    def _end(self, edit: OpenEdit) -> None:
        with self._change:
            edit.ended = True
            last = self._edits[-1] is edit
            while self._edits and self._edits[-1].ended:
                self._edits.pop().undo()
            self._change.notify_all()
        if not last:
            raise EditError(
                "edits end in the reverse order of their beginning, and a later one is still in "
                "force: this one ends with that; close the later one first"
            )

    def _waited(self, done: Callable[[], bool], patience: float) -> bool:
        return self._change.wait_for(done, min(patience, threading.TIMEOUT_MAX))

    def _is_mine(self, me: int) -> bool:
        return all(edit.thread == me for edit in self._edits)

    def _is_free(self, me: int) -> bool:
        others = any(count for thread, count in self._readers.items() if thread != me)
        return self._is_mine(me) and not others
