"""Several processes that carry out the same work, as torchrun would start them, but forked: they
have nothing to import."""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from patching import processes
from tasks.errors import CircuitsError
from tests.faults import child, status


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def environment(rank: int, count: int, port: int, **more: str) -> dict[str, str]:
    """What says to a process which of several it is."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
    return {"RANK": str(rank), "WORLD_SIZE": str(count), **where, **more}


@contextmanager
def as_rank(rank: int, count: int, port: int, **more: str) -> Iterator[None]:
    """This process is one of several; in the end it goes away in good order."""
    os.environ.update(environment(rank, count, port, **more))
    try:
        yield
    finally:
        if processes._group.cache_info().currsize:
            processes._group().end()


def on_ranks(
    count: int, work: Callable[[], Any], folder: Path, **more: str
) -> tuple[list[int], list[Any]]:
    """How each of several processes ended, and what each made of the work, or which error."""
    port, numbers = free_port(), {}
    for rank in range(count):
        with child() as inside:
            if inside:
                with as_rank(rank, count, port, **more):
                    found = None
                    try:
                        found = work()
                    except CircuitsError as error:
                        found = error
                        raise
                    finally:
                        (folder / f"rank-{rank}").write_bytes(pickle.dumps(found))
        numbers[rank] = 1
    codes = ended(count)
    files = [folder / f"rank-{rank}" for rank in range(count)]
    return codes, [pickle.loads(f.read_bytes()) if f.exists() else None for f in files]


def ended(count: int, seconds: float = 400.0) -> list[int]:
    """The statuses of so many children, in any order; none is waited for longer than this."""
    codes, until = [], time.monotonic() + seconds
    while len(codes) < count:
        number, code = os.waitpid(-1, os.WNOHANG)
        if number:
            codes.append(status(code))
        elif time.monotonic() > until:
            raise AssertionError(f"{count - len(codes)} processes hang")
        else:
            time.sleep(0.02)
    return sorted(codes)
