"""Keeping the prompt pairs that a model answers rightly, or any others that a callable chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool

from tasks.base import Task
from tasks.errors import TaskError
from tasks.pairs import PromptPairs
from tasks.tokenize import Tokenizer

MOST_PER_PAIR = 64

Decide = Callable[[PromptPairs], Bool[np.ndarray, " n"]]


def kept_pairs(
    task: Task, tokenizer: Tokenizer, n: int, decide: Decide, seed: int = 0, **options: Any
) -> tuple[PromptPairs, float]:
    """`n` pairs of the task that `decide` keeps, and the share of those asked that it kept.

    `decide` takes pairs and says for each one whether to keep it: for a model-correct filter,
    whether the model's top token on the clean prompt is an answer. More and more pairs are drawn,
    up to 64 for every one wanted; `TaskError` with the counts where that is not enough.
    """
    drawn = n
    while True:
        pairs = task.pairs(tokenizer, n=drawn, seed=seed, **options)
        kept = np.asarray(decide(pairs))
        if kept.shape != (drawn,) or kept.dtype != np.bool_:
            raise TaskError(
                f"the filter gave {kept.dtype} of shape {kept.shape} for {drawn} pairs; "
                "it must give one true or false per pair"
            )
        if kept.sum() >= n:
            return pairs[np.flatnonzero(kept)[:n]], float(kept.mean())
        if drawn >= MOST_PER_PAIR * n:
            raise TaskError(
                f"task {task.name}: the filter kept {kept.sum()} of {drawn} pairs, {n} are wanted; "
                "ask for fewer, or for easier ones"
            )
        drawn *= 2
