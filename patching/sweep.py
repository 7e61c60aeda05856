"""The one loop over prompts: batches, memory, progress, and what outlives the process.

1. The prompts are cut into whole batches, one after the other; each is a shard.
2. What a shard gives depends on its own prompts alone, and on what was settled for all of them
   before the loop began. So shards are dealt to several processes, where there are some
   (:mod:`patching.processes`): in every turn each has the next whole batch.
3. Where memory runs out, a shard is halved, and so are all that follow.
4. What a shard gave is written to the journal, if there is one, and read from it the next time.
5. Shards are handed out in the order of the prompts, in every process: what is added up over them
   is the same sum, wherever they were computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from hashlib import sha256
from numbers import Integral
from time import perf_counter
from typing import Any, Self, TypeVar

import numpy as np
import torch

from patching import processes
from patching.journal import Journal, Shard
from patching.model import Model
from patching.progress import Count, Progress, Tell, nobody
from patching.runs import Batch, check_tokens
from tasks.errors import MethodError
from tasks.pairs import PromptPairs

T = TypeVar("T")


@dataclass(frozen=True)
class Sweep:
    """How loops over prompts run.

    batch_size  prompts per forward pass; fewer where memory runs out
    progress    is called with (done, total, what), in prompts
    journal     keeps what shards give, so that a killed command goes on from there
    count       counts the work of several loops as one; without one, each loop counts its own
    memory      bytes that scores may take beside the model, as far as they can be told beforehand
    """

    batch_size: int = 32
    progress: Progress | None = None
    journal: Journal | None = None
    count: Count | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        size = self.batch_size
        if not isinstance(size, Integral) or size < 1:
            raise MethodError(f"batch_size must be a whole number of at least 1, given {size!r}")

    @classmethod
    def of(cls, size: int | Sweep, progress: Progress | None = None) -> Sweep:
        """Batches of a size, or the value itself."""
        return size if isinstance(size, Sweep) else cls(size, progress)

    def counting(self, total: int, what: str) -> Self:
        """With the count that is in force, or one of so many prompts."""
        return self if self.count else replace(self, count=Count(self.progress, total, what))

    def afresh(self, size: int | None = None, **changes: Any) -> Self:
        """For another loop, with a count of its own and perhaps batches of another size."""
        return replace(self, batch_size=size or self.batch_size, count=None, **changes)

    def tell(self, pieces: int) -> None:
        """So many pieces of what is counted are done."""
        if self.count is not None:
            self.count(pieces)

    def seconds(self) -> float:
        """A clock that also counts the time of work that is read back."""
        return perf_counter() + (self.journal.saved if self.journal else 0.0)


PLAIN = Sweep()


def sweep(
    model: Model,
    pairs: PromptPairs,
    work: Callable[[Batch], T],
    options: Sweep,
    steps: int = 1,
    spare: Tell = nobody,
) -> Iterator[T]:
    """What ``work`` makes of every batch, in order.

    With a journal, arrays. ``work`` may count ``steps`` pieces for every prompt of its batch with
    ``options.tell``; what it leaves out is counted for it. ``spare`` is called when memory runs
    out, and lets go of what can be made again.

    Raises:
        TaskError: tokens outside the model's vocabulary, or more of them than it has positions.
    """
    check_tokens(model, pairs)
    known = options.journal or processes.dealt()
    about = f"model {model.hash} on {model.device.type}, {pairs.digest}, " if known else ""

    def of_rows(rows: slice) -> T:
        with model.reading():
            return work(Batch.of(model, pairs[rows], rows.start))

    return shards(len(pairs), of_rows, options, steps, spare, about + work.__qualname__)


def shards(
    n: int,
    work: Callable[[slice], T],
    options: Sweep,
    steps: int = 1,
    spare: Tell = nobody,
    about: str = "",
    chained: bool = False,
) -> Iterator[T]:
    """The same for anything of ``n`` rows: ``work`` is given those of one shard after another.

    Where shards are ``chained``, each begins with what the last one gave, and none is dealt.
    """
    start, size, count = 0, int(options.batch_size), options.count
    before = 0 if count is None else count.done
    source = _Source(work, options.journal, f"{about} {n}", chained)
    while start < n:
        ahead = [slice(at, min(at + size, n)) for at in range(start, n, size)]
        for rows, shard in source.next(ahead):
            if shard is None:
                size = (rows.stop - rows.start) // 2
                spare()
                _free()
                if count is not None:
                    count.reach(before + steps * start)
                break
            if shard.stop - start != size and shard.stop < n:
                size = shard.stop - start
            start = shard.stop
            if count is not None:
                count.reach(before + steps * start)
            yield shard.value


@dataclass
class _Source:
    """Where shards come from: the journal, this process, or all of them."""

    work: Callable[[slice], Any]
    journal: Journal | None
    about: str
    chained: bool

    def __post_init__(self) -> None:
        self.key = sha256(self.about.encode()).digest()
        self.read = True

    def next(self, ahead: Sequence[slice]) -> Iterator[tuple[slice, Shard | None]]:
        """The next shards of those ahead, in their order; None where memory ran out for one.

        A shard of the journal may have other rows than those asked for, from the same one on.
        """
        if (shard := self._recalled(ahead[0].start)) is not None:
            yield ahead[0], shard
            return
        for rows, found in self._made(ahead):
            if found is not None and self.journal is not None:
                self.journal.append(self.key, found)
            yield rows, found
            if found is None:
                return

    def _recalled(self, start: int) -> Shard | None:
        """The shard that the journal has next; it is in the first process alone."""
        found = self.journal.recall(self.key, start) if self.journal else None
        if processes.dealt() and self.read:
            told = None if found is None else (found.stop, found.value, found.seconds)
            told = processes.of_first(told, f"{self.about}, read back")
            found = Shard(start, told[0], told[1], told[2]) if told else None
        self.read = found is not None
        return found

    def _made(self, ahead: Sequence[slice]) -> list[tuple[slice, Shard | None]]:
        """The next shard, or of several processes the next of each."""
        if not processes.dealt():
            return [(ahead[0], _computed(self.work, ahead[0]))]
        turn = ahead[: 1 if self.chained else processes.count()]
        mine: Shard | None = None
        number = processes.rank()
        if self.chained:
            mine = _computed(self.work, turn[0])
        elif number < len(turn):
            with processes.own_part():
                mine = _computed(self.work, turn[number])
        told = None if mine is None else (mine.value, mine.seconds)
        if self.chained and not processes.leads():
            told = told and (None, 0.0)
        every = processes.gathered(told, f"{self.about} {turn[0].start}")
        if self.chained:
            every = [every[0] if all(each is not None for each in every) else None]
        return [
            (rows, None if found is None else Shard(rows.start, rows.stop, *found))
            for rows, found in zip(turn, every, strict=False)
        ]


def added(parts: Iterable[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """The sums of what all shards gave, in their order."""
    return reduce(lambda total, part: tuple(map(np.add, total, part)), parts)


def _computed(work: Callable[[slice], Any], rows: slice) -> Shard | None:
    """The shard of some rows; None where they do not fit into memory, and half of them may."""
    begin = perf_counter()
    try:
        value = work(rows)
    except (RuntimeError, MemoryError) as error:
        if rows.stop - rows.start == 1 or not out_of_memory(error):
            raise
        # Only once the error is gone, with its traceback, is the memory of the attempt free.
        return None
    return Shard(rows.start, rows.stop, value, perf_counter() - begin)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: of CUDA, of MPS or of the processor."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return "out of memory" in text or "can't allocate memory" in text


def _free() -> None:
    """Give back what the allocators keep for later."""
    torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
