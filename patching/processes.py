"""Several processes that carry out one command, as torchrun starts them.

    torchrun --nproc-per-node 4 -m -- circuits discover ioi --out runs/ioi

1. Every process does the same. Only loops over prompts are dealt (:mod:`patching.sweep`): each
   process computes some of the batches, and all of them get what every batch gave, in the order of
   the prompts. So all go on with the same numbers, and they are those of a single process.
2. The first process, rank 0, alone reads journals, keeps and writes results, and speaks.
3. Nobody waits for ever for another: see :mod:`patching.process_group`, which connects them.

It is one of several processes where ``WORLD_SIZE`` is more than 1, as torchrun sets it;
``CIRCUITS_PROCESSES=off`` has each work by itself. Nothing is imported from torch before.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.errors import CircuitsError, RunError

if TYPE_CHECKING:
    from patching.process_group import Group

T = TypeVar("T")
R = TypeVar("R")

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


class OtherProcessError(RunError):
    """Another process has failed; what was wrong it says itself."""


def count() -> int:
    """How many processes carry out this command.

    Raises:
        RunError: the environment says so with something that is not a number.
    """
    if os.environ.get("CIRCUITS_PROCESSES", "").lower() == "off":
        return 1
    return max(1, number("WORLD_SIZE", 1))


def rank() -> int:
    """Which of them this one is, from 0."""
    return number("RANK", 0) if count() > 1 else 0


def leads() -> bool:
    """Whether this process is the one that keeps, writes and speaks."""
    return rank() == 0


def dealt() -> bool:
    """Whether loops over prompts are dealt to several processes here."""
    return count() > 1 and not _ALONE.get()


@contextmanager
def alone() -> Iterator[None]:
    """What this process alone does: loops in the block are not dealt."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


@contextmanager
def own_part() -> Iterator[None]:
    """The same for a part of the work that others wait for: if it fails, they are told."""
    try:
        with alone():
            yield
    except BaseException:
        _group().fail()
        raise


def gathered(value: Any, about: str) -> list[Any]:
    """What every process gives, in the order of their ranks; ``about`` is the same in all.

    Values are arrays, tensors, plain values, and lists, tuples and dictionaries of them.

    Raises:
        RunError: another process is at something else, or has ended.
    """
    return _group().gathered(value, about)


def of_first(value: Any, about: str) -> Any:
    """What the first process gives, in all of them; what others give is not looked at."""
    if not dealt():
        return value
    return gathered(value if leads() else None, about)[0]


def each(items: Sequence[T], work: Callable[[T], R], about: str) -> list[R]:
    """What ``work`` makes of every item, dealt in runs of whole items where there are several."""
    if not dealt() or len(items) < 2:
        return [work(item) for item in items]
    size = -(-len(items) // count())
    with own_part():
        mine = [work(item) for item in items[rank() * size : (rank() + 1) * size]]
    return [found for part in gathered(mine, about) for found in part]


def speaks(message: str) -> bool:
    """Whether this process says why it fails: of several that fail alike, the first to ask.

    From now on all others end, where they wait for this one.
    """
    if count() == 1:
        return True
    from patching.process_group import asked_first

    try:
        digest = hashlib.sha256(message.encode(errors="replace")).hexdigest()
        return asked_first(digest, _group() if _group.cache_info().currsize else None)
    except (CircuitsError, RuntimeError, OSError):
        return True


def own_device(kind: str) -> int | None:
    """The number of the CUDA device that goes with this process, where nobody said which."""
    return number("LOCAL_RANK", 0) if kind == "cuda" and count() > 1 else None


def number(name: str, default: int) -> int:
    """What the environment says under a name.

    Raises:
        RunError: something that is not a number.
    """
    text = os.environ.get(name, "")
    if text and not text.isdecimal():
        raise RunError(f"{name} is '{text}' in the environment; torchrun sets it to a number")
    return int(text or default)


@cache
def _group() -> Group:
    from patching.process_group import joined

    return joined()
