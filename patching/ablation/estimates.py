"""Estimating means: sums in float64 while prompts stream through the model.

Memory does not grow with the number of prompts, and padding is never counted. Means by token are
the conditional means of context-aware mean ablation when prompts are drawn so that the rest of a
prompt does not depend on that token: :func:`conditional_means`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.ablation.means import BY, Keys, MeanActivations, Origin, listed, token_keys
from patching.forward import Record, Tap, chain
from patching.masks import Allowed, Attention
from patching.model import Model
from patching.ops import Point
from patching.progress import Count
from patching.runs import Batch
from patching.sweep import Sweep, shards, sweep
from tasks.errors import MethodError, all_faults, unknown
from tasks.pairs import PromptPairs

MEANS_BATCH = 64
"""Prompts per forward pass where means are estimated on the way to something else."""

Tokens = Int[np.ndarray, "n s"]
Row = Int[np.ndarray, " n"]
Peek = Callable[[Bool[Tensor, "b s"]], Allowed]
"""From the mask of real tokens to what each may attend to."""


def estimate_means(
    model: Model,
    pairs: PromptPairs,
    points: Iterable[Point],
    by: str = "all",
    batch_size: int | Sweep = MEANS_BATCH,
) -> MeanActivations:
    """Means over every real token of the clean prompts.

    Raises:
        MethodError: means are not distinguished like that.
    """
    if by not in BY:
        raise MethodError(unknown("way to distinguish means", by, BY))
    keys = token_keys(pairs.clean, pairs.mask, by)
    distinct, which = np.unique(keys[pairs.mask], axis=0, return_inverse=True)
    rows = np.full(pairs.mask.shape, -1, dtype=np.int64)
    rows[pairs.mask] = which.reshape(-1)
    lengths = tuple(sorted({int(length) for length in pairs.mask.sum(1)}))
    origin = Origin(model.hash, pairs.task, pairs.digest, len(pairs), lengths)
    options = Sweep.of(batch_size).counting(len(pairs), "means")
    sums = Sums(model, points, len(distinct))

    def work(batch: Batch) -> tuple[np.ndarray, ...]:
        part = rows[batch.rows, batch.dropped :]
        return sums.of(batch.clean, batch.mask, part, np.ones(len(batch), dtype=np.int64))

    for part in sweep(model, pairs, work, options):
        sums.add(part)
    return sums.means(by, distinct, origin)


def conditional_means(
    model: Model,
    samples: Mapping[tuple[int, int], Int[np.ndarray, "n pos"]],
    points: Iterable[Point],
    task: str = "",
    batch_size: int | Sweep = 256,
    attention: Peek | None = None,
) -> MeanActivations:
    """Means by token: ``samples[position, token]`` are prompts that have that token there.

    Only the activation at that position counts. As nothing after it can matter, prompts are cut
    there and equal beginnings are run once, so an exhaustive sample costs little. With
    ``attention`` every layer attends to no more than that mask allows.

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
    options = Sweep.of(batch_size)
    count = Count(options.progress, n, "conditional means")
    sums = Sums(model, points, len(keys), attention)
    for starts, of, times in _prefixes(samples, cells):

        def work(
            some: slice, starts: Tokens = starts, of: Row = of, times: Row = times
        ) -> tuple[np.ndarray, ...]:
            tokens = torch.tensor(starts[some], device=model.device)
            counted = np.full(tokens.shape, -1, dtype=np.int64)
            counted[:, -1] = of[some]
            return sums.of(tokens, torch.ones_like(tokens, dtype=torch.bool), counted, times[some])

        about = f"{digest.hexdigest()} {starts.shape} {model.hash} {model.device}"
        for part in shards(len(times), work, options.afresh(), about=about):
            sums.add(part)
            count(int(part[1].sum()))
    return sums.means("token", keys, origin)


def _prefixes(
    samples: Mapping[tuple[int, int], Int[np.ndarray, "n pos"]], cells: Sequence[tuple[int, int]]
) -> Iterator[tuple[Tokens, Row, Row]]:
    """Distinct beginnings, position by position, the cell of each, and how many samples it is."""
    for position in sorted({position for position, _ in cells}):
        here = [i for i, cell in enumerate(cells) if cell[0] == position]
        starts = [np.asarray(samples[cells[i]])[:, : position + 1] for i in here]
        of = np.repeat(here, [len(rows) for rows in starts])
        marked = np.column_stack([of, np.concatenate(starts)])
        distinct, times = np.unique(marked, axis=0, return_counts=True)
        yield distinct[:, 1:], distinct[:, 0], times


class Sums:
    """Sums of the values at some points over tokens that count for the same mean, in float64."""

    def __init__(
        self, model: Model, points: Iterable[Point], n: int, attention: Peek | None = None
    ) -> None:
        self.model, self.attention = model, attention
        self.points = tuple(dict.fromkeys(points))
        self.counts = np.zeros(n)
        self.totals: dict[Point, Float[np.ndarray, "k *unit"]] = {}

    @torch.no_grad()
    def of(
        self,
        tokens: Int[Tensor, "b s"],
        mask: Bool[Tensor, "b s"],
        rows: Int[np.ndarray, "b s"],
        times: Int[np.ndarray, " b"],
    ) -> tuple[np.ndarray, ...]:
        """Of some prompts: the means that tokens count for, how many they are, and the sums.

        ``rows`` says for which mean each token counts (-1: none), ``times`` how often.
        """
        model, tap = self.model, Record({kind for kind, _ in self.points})
        frame = model.frame(mask)
        x = tap("input", 0, model.embed(tokens, frame))
        model.run_from(0, x, frame, self._through(mask, tap))
        counted = torch.as_tensor(rows >= 0, device=model.device)
        means, which = np.unique(rows[rows >= 0], return_inverse=True)
        place = torch.as_tensor(which.reshape(-1), device=model.device)
        often = torch.as_tensor(times, device=model.device).double()
        weight = often[:, None].expand_as(counted)[counted]
        counts = weight.new_zeros(len(means)).index_add_(0, place, weight)
        sums = []
        for point in self.points:
            values = tap.values[point][counted].double()
            values *= weight.view(-1, *[1] * (values.ndim - 1))
            total = values.new_zeros(len(means), *values.shape[1:])
            sums.append(total.index_add_(0, place, values).cpu().numpy())
        return means, counts.cpu().numpy(), *sums

    def _through(self, mask: Bool[Tensor, "b s"], tap: Tap) -> Tap:
        if self.attention is None:
            return tap
        layers = range(self.model.anatomy.n_layers)
        return chain(Attention(dict.fromkeys(layers, self.attention(mask))), tap)

    def add(self, part: tuple[np.ndarray, ...]) -> None:
        """Add what :meth:`of` gave."""
        means, counts, *sums = part
        self.counts[means] += counts
        for point, some in zip(self.points, sums, strict=True):
            if point not in self.totals:
                self.totals[point] = np.zeros((len(self.counts), *some.shape[1:]))
            self.totals[point][means] += some

    def means(self, by: str, keys: Keys, origin: Origin) -> MeanActivations:
        """What they are means of: see :class:`MeanActivations`."""
        dtype = torch.float64 if self.model.dtype == torch.float64 else torch.float32
        values = {
            point: torch.tensor(
                total / self.counts.reshape(-1, *[1] * (total.ndim - 1)),
                dtype=dtype,
                device=self.model.device,
            )
            for point, total in self.totals.items()
        }
        return MeanActivations(by, np.asarray(keys), self.counts.astype(np.int64), values, origin)


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
