"""How much memory scores of edges take, and which setting stays below a limit.

Counted in vectors of the stream, ``b s d`` numbers, for a batch of ``b`` prompts of ``s`` tokens:

* kept to the end: what attention heads and MLP write in both runs (4 a layer), and the stream that
  enters each layer (1, with secants 2);
* a block's graph: norms, queries, keys, values and what they are multiplied with (6), the MLP's
  neurons (3 of their width with a gate, else 2), and attention patterns (``3 h s / d``);
* gradients at ports (4 a layer), which take the place of graphs that are let go.

Either all graphs are held, or, running every block twice, one. What an allocator loses between
pieces is counted in :data:`SLACK`.
"""

from __future__ import annotations

import math
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from patching.anatomy import Anatomy
from patching.model import Model
from patching.paper import Paper
from tasks.errors import MethodError

SLACK = 1.5
"""What a process takes for a byte that is in use, at most."""

TILES = 64 * 2**20
"""Bytes of the tiles that products are taken in, a few at a time."""

EVERY = 0.005
"""Seconds between two looks at how much memory the process has."""


@dataclass(frozen=True)
class Fit:
    """How many prompts at a time, and whether every block runs twice."""

    batch_size: int
    again: bool

    def __str__(self) -> str:
        prompts = "1 prompt" if self.batch_size == 1 else f"{self.batch_size} prompts"
        return f"{prompts} at a time" + (", every block twice" if self.again else "")


def fit(model: Model | Paper, length: int, batch_size: int, memory: int) -> Fit:
    """The largest batches that stay below a limit of bytes, first with every block run once.

    Raises:
        MethodError: not even one prompt fits; what it takes is named.
    """
    size = batch_size
    while True:
        for again in (False, True):
            if taken(model, size, length, again) <= memory:
                return Fit(size, again)
        if size == 1:
            least = math.ceil(taken(model, 1, length, True) / 1e6)
            raise MethodError(
                f"one prompt of {length} tokens takes about {least:,} MB beside the model, and "
                f"memory is {memory / 1e6:,.0f} MB; give it more, or shorter prompts"
            )
        size //= 2


def taken(model: Model | Paper, prompts: int, length: int, again: bool) -> int:
    """About how many bytes scores of edges take beside the model, at most."""
    a = model.anatomy
    vector = prompts * length * a.d_model * model.dtype.itemsize
    gated = model.gated if isinstance(model, Paper) else model.blocks[0].gate is not None
    kept, graph = 6.0, _graph(a, length, gated=gated)
    layers = a.n_layers * kept
    # Going backward, ports take 4 a layer while graphs go.
    layers += graph + 4 * a.n_layers if again else a.n_layers * max(graph, 4.0)
    logits = 4 * prompts * model.vocabulary_size * model.dtype.itemsize
    return int(SLACK * (layers * vector + logits)) + TILES


def _graph(a: Anatomy, length: int, gated: bool) -> float:
    """A block's graph in vectors of the stream."""
    heads = a.n_heads * a.d_head / a.d_model
    return (
        2
        + 4 * heads
        + (3 if gated else 2) * a.d_mlp / a.d_model
        + (3 * a.n_heads * length / a.d_model)
    )


@contextmanager
def peak(model: Model) -> Iterator[Callable[[], int]]:
    """Gives a function: bytes taken at most in the block, beside what there was before."""
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
        before = torch.cuda.memory_allocated(model.device)
        yield lambda: torch.cuda.max_memory_allocated(model.device) - before
        return
    before, seen, done = resident(), [0], threading.Event()

    def look() -> None:
        while not done.wait(EVERY):
            seen[0] = max(seen[0], resident() - before)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield lambda: seen[0]
    finally:
        done.set()
        watcher.join()
        seen[0] = max(seen[0], resident() - before)


def resident() -> int:
    """Bytes that this process has in memory; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()
