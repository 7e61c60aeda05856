"""Prompts that share one token and are otherwise drawn anew: what conditional means are over.

The rest of a prompt must not depend on the token that is held fixed. A sampler that keeps results
in range leaks: in A - B >= 0, the mean of A grows with B, so a mean "given B" tells of A.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from tasks.errors import TaskError, all_faults

if TYPE_CHECKING:
    from tasks import PromptPairs, Task

Conditional = Callable[[int, int, int, int], Int[np.ndarray, "m pos"]]
"""(position, token, n, seed) -> ids of n prompts, or fewer, that have the token at the position."""


@dataclass(frozen=True)
class Columns:
    """Every column drawn by itself, evenly from the tokens that the prompts have there.

    Serves prompts of any origin, as long as columns may be recombined freely. Where there are no
    more than `n` different beginnings up to the position, all of them are given equally often, so
    the mean is exact and not sampled.
    """

    values: tuple[Int[np.ndarray, " k"], ...]

    @classmethod
    def of(cls, pairs: PromptPairs) -> Columns:
        """The columns of some prompts of one length."""
        return cls(tuple(np.unique(column) for column in pairs.clean.T))

    def __call__(self, position: int, token: int, n: int, seed: int) -> Int[np.ndarray, "m pos"]:
        """At least `n` prompts with `token` at `position`."""
        columns = [*self.values[:position], np.array([token]), *self.values[position + 1 :]]
        if np.prod([float(len(column)) for column in columns[:position]]) <= n:
            # What comes after the position cannot matter there, so any token will do.
            ahead = [*columns[: position + 1], *(column[:1] for column in columns[position + 1 :])]
            every = np.meshgrid(*ahead, indexing="ij")
            rows = np.stack([column.reshape(-1) for column in every], axis=1)
            return np.tile(rows, (-(-n // len(rows)), 1))
        rng = np.random.default_rng(seed)
        return np.stack([rng.choice(column, size=n) for column in columns], axis=1)


@dataclass(frozen=True)
class OfTask:
    """A task's own sampler, `task.conditional(tokenizer, n, seed, fixed={"B": 20}, **options)`.

    Positions whose token never varies fix nothing; others have to be named operands, and their
    token has to read as a number.
    """

    task: Any
    tokenizer: Any
    slots: Mapping[int, str]
    options: Mapping[str, Any]

    @classmethod
    def of(
        cls, task: Task, tokenizer: Any, pairs: PromptPairs, options: Mapping[str, Any]
    ) -> OfTask:
        """The sampler for prompts that this task has made.

        Raises:
            TaskError: a position varies and is no operand.
        """
        tokens = pairs.clean
        varying = np.flatnonzero((tokens != tokens[0]).any(0)).tolist()
        names = {int(at[0]): name for name, at in pairs.positions.items() if (at == at[0]).all()}
        if unnamed := [column for column in varying if column not in names]:
            raise TaskError(
                f"task {pairs.task}: tokens vary at position {unnamed[0]}, which no operand names; "
                f"ask for prompts of one template"
            )
        return cls(task, tokenizer, {column: names[column] for column in varying}, options)

    def __call__(self, position: int, token: int, n: int, seed: int) -> Int[np.ndarray, "m pos"]:
        """`n` prompts with `token` at `position`; the same seed draws the same other operands."""
        fixed = {}
        if position in self.slots:
            text = self.tokenizer.decode([token]).strip()
            if not text.isdecimal():
                raise TaskError(f"operand {self.slots[position]} is '{text}', not a number")
            fixed = {self.slots[position]: int(text)}
        rows: Int[np.ndarray, "m pos"] = self.task.conditional(
            self.tokenizer, n, seed, fixed=fixed, **self.options
        )
        return rows


def draw(
    pairs: PromptPairs, conditional: Conditional, n: int, seed: int
) -> dict[tuple[int, int], Int[np.ndarray, "m pos"]]:
    """Prompts for every token of the clean prompts at its position.

    All tokens share one seed, so that tables differ by the token and not by the draw. Up to the
    first position that varies, the beginning of a prompt is all that its token depends on, so a
    prompt stands for all others that have the token.
    """
    tokens = pairs.clean
    varies = (tokens != tokens[0]).any(0)
    first = int(varies.argmax()) if varies.any() else tokens.shape[1] - 1
    drawn = {}
    for position, column in enumerate(tokens.T):
        for token, row in zip(*np.unique(column, return_index=True), strict=True):
            if position <= first:
                rows = np.repeat(tokens[[row]], n, axis=0)
            else:
                rows = np.asarray(conditional(position, int(token), n, seed))
            drawn[position, int(token)] = rows
    return drawn


def of_one_length(pairs: PromptPairs) -> PromptPairs:
    """The pairs without the columns that are padding in all of them.

    Raises:
        TaskError: prompts of several lengths, or of a single token.
    """
    lengths, counts = np.unique(pairs.mask.sum(1), return_counts=True)
    if len(lengths) > 1:
        lines = [f"{count} of {n} tokens" for n, count in zip(lengths, counts, strict=True)]
        raise TaskError(
            all_faults("All-for-One needs prompts of one length; these are:", lines)
            + "\n  choose one template, or operands that are one token each"
        )
    length = int(lengths[0])
    if length < 2:
        raise TaskError("All-for-One needs prompts of at least two tokens")
    padding = pairs.clean.shape[1] - length
    return replace(
        pairs,
        clean=pairs.clean[:, padding:],
        corrupted=pairs.corrupted[:, padding:],
        mask=pairs.mask[:, padding:],
        positions={name: at - padding for name, at in pairs.positions.items()},
    )
