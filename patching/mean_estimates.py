"""Estimating means: sums in float64 while prompts stream through the model.

Memory does not grow with the number of prompts, and padding is never counted. Means by token are
the conditional means of context-aware mean ablation when prompts are drawn so that the rest of a
prompt does not depend on that token: :func:`conditional_means`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from patching.forward import Record, Tap, chain
from patching.masks import Allowed, Attention
from patching.mean_activations import BY, Keys, MeanActivations, Origin, listed, token_keys
from patching.model import Model
from patching.ops import Point
from patching.progress import Count, Progress
from patching.runs import batches
from tasks.errors import MethodError, all_faults, unknown
from tasks.pairs import PromptPairs

Peek = Callable[[Bool[Tensor, "b s"]], Allowed]
"""From the mask of real tokens to what each may attend to."""


def estimate_means(
    model: Model,
    pairs: PromptPairs,
    points: Iterable[Point],
    by: str = "all",
    batch_size: int = 64,
    progress: Progress | None = None,
) -> MeanActivations:
    """Means over every real token of the clean prompts; ``progress`` counts prompts.

    Raises:
        MethodError: means are not told apart like that.
    """
    if by not in BY:
        raise MethodError(unknown("way to tell means apart", by, BY))
    keys = token_keys(pairs.clean, pairs.mask, by)
    distinct, which = np.unique(keys[pairs.mask], axis=0, return_inverse=True)
    rows = np.full(pairs.mask.shape, -1, dtype=np.int64)
    rows[pairs.mask] = which.reshape(-1)
    chunks = _whole_prompts(model, pairs, rows, batch_size)
    lengths = tuple(sorted({int(length) for length in pairs.mask.sum(1)}))
    origin = Origin(model.hash, pairs.task, pairs.digest, len(pairs), lengths)
    count = Count(progress, len(pairs), "means")
    return _means(model, by, distinct, points, chunks, origin, count)


def conditional_means(
    model: Model,
    samples: Mapping[tuple[int, int], Int[np.ndarray, "n pos"]],
    points: Iterable[Point],
    task: str = "",
    batch_size: int = 256,
    attention: Peek | None = None,
    progress: Progress | None = None,
) -> MeanActivations:
    """Means by token: ``samples[position, token]`` are prompts that have that token there.

    Only the activation at that position counts. As nothing after it can matter, prompts are cut
    there and equal beginnings are run once, so an exhaustive sample costs little. With
    ``attention`` every layer attends to no more than that mask allows. ``progress`` counts prompts.

    Raises:
        MethodError: prompts of several lengths, or without the token they are to have.
    """
    _check_samples(samples)
    cells = sorted(samples)
    length = next(iter(samples.values())).shape[1]
    keys = np.array([(length, position, token) for position, token in cells])
    digest = hashlib.sha256()
    for cell in cells:
        digest.update(np.ascontiguousarray(samples[cell], dtype=np.int64).tobytes())
    n = sum(len(rows) for rows in samples.values())
    origin = Origin(model.hash, task, digest.hexdigest(), n, (length,), "conditional")
    chunks = _prefixes(model, samples, cells, batch_size)
    count = Count(progress, n, "conditional means")
    return _means(model, "token", keys, points, chunks, origin, count, attention)


@dataclass(frozen=True)
class Chunk:
    """Prompts to run, the mean that each token counts for (-1: none), and how often it counts."""

    tokens: Int[Tensor, "b s"]
    mask: Bool[Tensor, "b s"]
    rows: Int[np.ndarray, "b s"]
    times: Int[np.ndarray, " b"]


def _whole_prompts(
    model: Model, pairs: PromptPairs, rows: Int[np.ndarray, "n s"], size: int
) -> Iterator[Chunk]:
    start = 0
    for batch in batches(model, pairs, size):
        part = rows[start : start + len(batch), batch.dropped :]
        yield Chunk(batch.clean, batch.mask, part, np.ones(len(batch), dtype=np.int64))
        start += len(batch)


def _prefixes(
    model: Model,
    samples: Mapping[tuple[int, int], Int[np.ndarray, "n pos"]],
    cells: Sequence[tuple[int, int]],
    size: int,
) -> Iterator[Chunk]:
    """Distinct beginnings, position by position, each with the number of samples it stands for."""
    for position in sorted({position for position, _ in cells}):
        here = [i for i, cell in enumerate(cells) if cell[0] == position]
        starts = [np.asarray(samples[cells[i]])[:, : position + 1] for i in here]
        of = np.repeat(here, [len(rows) for rows in starts])
        marked = np.column_stack([of, np.concatenate(starts)])
        distinct, times = np.unique(marked, axis=0, return_counts=True)
        for start in range(0, len(distinct), size):
            part = distinct[start : start + size]
            tokens = torch.tensor(part[:, 1:], device=model.device)
            rows = np.full(tokens.shape, -1, dtype=np.int64)
            rows[:, -1] = part[:, 0]
            mask = torch.ones_like(tokens, dtype=torch.bool)
            yield Chunk(tokens, mask, rows, times[start : start + size])


@torch.no_grad()
def _means(
    model: Model,
    by: str,
    keys: Keys,
    points: Iterable[Point],
    chunks: Iterable[Chunk],
    origin: Origin,
    count: Count,
    attention: Peek | None = None,
) -> MeanActivations:
    points = tuple(dict.fromkeys(points))
    counts = torch.zeros(len(keys), dtype=torch.float64, device=model.device)
    sums: dict[Point, Tensor] = {}
    for chunk in chunks:
        tap = Record({kind for kind, _ in points})
        x = tap("input", 0, model.embed(chunk.tokens, frame := model.frame(chunk.mask)))
        model.run_from(0, x, frame, _through(model, chunk, attention, tap))
        rows = torch.as_tensor(chunk.rows, device=model.device)
        counted = rows >= 0
        times = torch.as_tensor(chunk.times, device=model.device).double()
        weight = times[:, None].expand_as(rows)[counted]
        counts.index_add_(0, rows[counted], weight)
        for point in points:
            values = tap.values[point][counted].double()
            if point not in sums:
                sums[point] = values.new_zeros(len(keys), *values.shape[1:])
            values *= weight.view(-1, *[1] * (values.ndim - 1))
            sums[point].index_add_(0, rows[counted], values)
        count(int(chunk.times.sum()))
    dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
    means = {
        point: (total / counts.view(-1, *[1] * (total.ndim - 1))).to(dtype)
        for point, total in sums.items()
    }
    return MeanActivations(by, np.asarray(keys), counts.long().cpu().numpy(), means, origin)


def _through(model: Model, chunk: Chunk, attention: Peek | None, tap: Tap) -> Tap:
    if attention is None:
        return tap
    allowed = attention(chunk.mask)
    return chain(Attention(dict.fromkeys(range(model.anatomy.n_layers), allowed)), tap)


def _check_samples(samples: Mapping[tuple[int, int], np.ndarray]) -> None:
    faults = [] if samples else ["there are no samples"]
    lengths = sorted({rows.shape[1] for rows in samples.values()})
    if len(lengths) > 1:
        faults.append(f"prompts of {listed(lengths)} tokens; give prompts of one length")
    for (position, token), rows in samples.items():
        if len(rows) == 0 or not 0 <= position < rows.shape[1]:
            faults.append(f"position {position}, token {token}: no prompts that reach it")
        elif (rows[:, position] != token).any():
            faults.append(f"position {position}: a prompt drawn for token {token} has another")
    if faults:
        raise MethodError(all_faults("no conditional means from these samples:", faults))
