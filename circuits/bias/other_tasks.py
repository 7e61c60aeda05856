"""Side effects: how a model does on other tasks and on plain text, before and after an edit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.bias.answers import batch_rows
from patching.forward import run_block
from patching.model import Model
from patching.runs import batches
from tasks.base import Task
from tasks.emotion import Emotion
from tasks.errors import TaskError
from tasks.ioi import IOI
from tasks.mental_math import MentalMath
from tasks.pairs import PromptPairs
from tasks.stories import stories
from tasks.tokenize import encode, pad_id, unknown_words

TASKS: tuple[Task, ...] = (IOI(), MentalMath(), Emotion())
SPLITS = {"test": 0, "train": 1}


@dataclass(frozen=True)
class Others:
    """Prompts of other tasks and plain text; ``missing`` says why a task is not among them."""

    pairs: Mapping[str, PromptPairs]
    tokens: Int[np.ndarray, "n pos"]
    mask: Bool[np.ndarray, "n pos"]
    missing: Mapping[str, str]


@dataclass(frozen=True)
class Sideways:
    """What came of them: right or not per prompt, loss per text and its number of tokens."""

    right: Mapping[str, Bool[np.ndarray, " n"]]
    loss: Float[np.ndarray, " n"]
    count: Int[np.ndarray, " n"]

    @property
    def perplexity(self) -> float:
        """exp of the mean loss per token of the plain texts."""
        return float(np.exp(self.loss.sum() / self.count.sum()))


def other_prompts(tokenizer: Any, n: int, split: str, longest: int | None) -> Others:
    """``n`` prompts of each other task and ``n`` stories that this tokenizer can write."""
    pairs, missing = {}, {}
    for task in TASKS:
        name = task.name
        try:
            made = task.pairs(tokenizer, n=n, seed=SPLITS[split], split=_split(task, split))
        except TaskError as fault:
            missing[name] = str(fault).splitlines()[0]
            continue
        if longest is not None and made.clean.shape[1] > longest:
            missing[name] = f"its prompts have more than the model's {longest} positions"
            continue
        pairs[name] = made
    texts = stories(n, SPLITS[split], split)
    rows = [encode(tokenizer, text) for text in texts if not unknown_words(tokenizer, text)]
    rows = [row[:longest] for row in rows]
    if not rows:
        missing["text"] = "this tokenizer knows the words of none of the stories"
        return Others(pairs, np.zeros((0, 2), int), np.zeros((0, 2), bool), missing)
    width = max(map(len, rows))
    tokens = np.full((len(rows), width), pad_id(tokenizer))
    mask = np.zeros(tokens.shape, dtype=bool)
    for i, row in enumerate(rows):
        tokens[i, width - len(row) :] = row
        mask[i, width - len(row) :] = True
    return Others(pairs, tokens, mask, missing)


@torch.no_grad()
def look(model: Model, others: Others, batch_size: int = 64) -> Sideways:
    """How the model does on them now."""
    right = {name: _right(model, pairs, batch_size) for name, pairs in others.pairs.items()}
    losses, counts = [np.zeros(0)], [np.zeros(0, int)]
    for rows in batch_rows(others.mask):
        tokens = torch.tensor(others.tokens[rows], device=model.device)
        mask = torch.tensor(others.mask[rows], device=model.device)
        loss, counted = _losses(model, tokens, mask)
        losses.append((loss * counted).sum(1).cpu().numpy())
        counts.append(counted.sum(1).cpu().numpy())
    return Sideways(right, np.concatenate(losses), np.concatenate(counts))


def _split(task: Task, split: str) -> str:
    """The task's own name for a split: what is no test split is the other one."""
    names = [str(name) for name in task.options["split"].choices]
    return (
        "test" if split == "test" else next(name for name in names if name not in ("test", "all"))
    )


def _right(model: Model, pairs: PromptPairs, batch_size: int) -> Bool[np.ndarray, " n"]:
    """Whether the most likely token is among the right answers."""
    found = []
    for batch in batches(model, pairs, batch_size):
        best = model.run(batch.clean, batch.mask).argmax(-1).cpu().numpy()
        found.append((best[:, None] == batch.pairs.answer).any(1))
    return np.concatenate(found)


def _losses(
    model: Model, tokens: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"]
) -> tuple[Float[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """Loss of every token given those before it, and which of them count (t = s - 1)."""
    frame = model.frame(mask)
    x = model.embed(tokens, frame)
    for block in model.blocks:
        x = run_block(block, x, frame)
    logits = model.unembed(x[:, :-1].flatten(0, 1)).float()
    loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="none")
    return loss.double().unflatten(0, tokens[:, 1:].shape), mask[:, :-1] & mask[:, 1:]
