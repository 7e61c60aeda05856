"""The one loop over prompts: batches, memory, progress, and what outlives the process.

1. The prompts are cut into whole batches, one after the other; each is a shard.
2. What a shard gives depends on its own prompts alone, and on what was settled for all of them
   before the loop began. So shards may be dealt to several processes, in runs of whole batches.
3. Where memory runs out, a shard is halved, and so are all that follow.
4. What a shard gave is written to the journal, if there is one, and read from it the next time.
5. Shards are handed out in the order of the prompts: what is added up over them is the same sum,
   wherever they were computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from hashlib import sha256
from numbers import Integral
from time import perf_counter
from typing import Any, Self, TypeVar

import numpy as np
import torch

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
    about = f"{model.hash} {model.device} {pairs.digest}" if options.journal else ""

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
) -> Iterator[T]:
    """The same for anything of ``n`` rows: ``work`` is given those of one shard after another."""
    start, size, journal, count = 0, int(options.batch_size), options.journal, options.count
    key = sha256(f"{about} {n}".encode()).digest()
    before = 0 if count is None else count.done
    while start < n:
        rows = slice(start, min(start + size, n))
        shard = journal.recall(key, start) if journal else None
        if shard is None:
            shard = _computed(work, rows)
            if shard is None:
                size = (rows.stop - rows.start) // 2
                spare()
                _free()
                if count is not None:
                    count.reach(before + steps * start)
                continue
            if journal is not None:
                journal.append(key, shard)
        elif shard.stop < n:
            size = shard.stop - start
        start = shard.stop
        if count is not None:
            count.reach(before + steps * start)
        yield shard.value


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
