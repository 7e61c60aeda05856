"""Side effects: how a model does on other tasks and on plain text, before and after an edit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.studies.bias.start import Start
from patching.model import Model
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

UNEMBEDDED = 1024
"""How many tokens are unembedded at a time."""


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


@dataclass(frozen=True)
class OtherStarts:
    """Where the prompts of other tasks and the texts enter a block (:class:`Start`)."""

    pairs: Mapping[str, Start]
    text: Start

    @classmethod
    def of(cls, model: Model, others: Others) -> OtherStarts:
        """What enters the first block."""
        pairs = {name: Start.of(model, p.clean, p.mask) for name, p in others.pairs.items()}
        return cls(pairs, Start.of(model, others.tokens, others.mask))

    @property
    def layer(self) -> int:
        """The block that they enter."""
        return self.text.layer

    @property
    def every(self) -> tuple[Start, ...]:
        """Those of all tasks, and the text's."""
        return *self.pairs.values(), self.text

    def at(self, model: Model, layer: int) -> OtherStarts:
        """The same where they enter a later block."""
        pairs = {name: start.at(model, layer) for name, start in self.pairs.items()}
        return OtherStarts(pairs, self.text.at(model, layer))


@dataclass(frozen=True)
class Stops:
    """Where they enter the blocks that were asked for so far, each run up to once for all."""

    model: Model
    known: dict[int, OtherStarts]

    @classmethod
    def of(cls, model: Model, others: Others) -> Stops:
        """At first they are at the first block."""
        return cls(model, {0: OtherStarts.of(model, others)})

    def at(self, layer: int) -> OtherStarts:
        """Where they enter a block of the model as it is, with no edit in force."""
        if layer not in self.known:
            nearest = max(known for known in self.known if known < layer)
            self.known[layer] = self.known[nearest].at(self.model, layer)
        return self.known[layer]


def look(model: Model, others: Others, starts: OtherStarts | None = None) -> Sideways:
    """How the model does on them now.

    ``starts`` is where they enter a block before which nothing has changed.
    """
    *tasks, text = glances(model, others, starts)
    right = {name: each.right[name] for each in tasks for name in each.right}
    return Sideways({name: right[name] for name in others.pairs}, text.loss, text.count)


@torch.no_grad()
def glances(model: Model, others: Others, starts: OtherStarts | None = None) -> Iterator[Sideways]:
    """The same task by task, the shortest first, and the text at last."""
    starts = starts or OtherStarts.of(model, others)
    for name, pairs in sorted(others.pairs.items(), key=lambda each: each[1].mask.sum()):
        right = _right(model, pairs, starts.pairs[name])
        yield Sideways({name: right}, np.zeros(0), np.zeros(0, int))
    loss, count = np.zeros(len(others.mask)), np.zeros(len(others.mask), int)
    for chunk in starts.text.at(model, model.anatomy.n_layers).chunks:
        rows, width = chunk.rows, chunk.x.shape[1]
        tokens = torch.tensor(others.tokens[rows, -width:], device=model.device)
        mask = torch.tensor(others.mask[rows, -width:], device=model.device)
        loss[rows], count[rows] = _losses(model, chunk.x, tokens, mask)
    yield Sideways({}, loss, count)


def _split(task: Task, split: str) -> str:
    """The task's own name for a split: what is no test split is the other one."""
    names = [str(name) for name in task.options["split"].choices]
    return (
        "test" if split == "test" else next(name for name in names if name not in ("test", "all"))
    )


def _right(model: Model, pairs: PromptPairs, start: Start) -> Bool[np.ndarray, " n"]:
    """Whether the most likely token is among the right answers."""
    right = np.zeros(len(pairs), bool)
    for rows, logits in start.logits(model):
        best = logits.argmax(-1).cpu().numpy()
        right[rows] = (best[:, None] == pairs.answer[rows]).any(1)
    return right


def _losses(
    model: Model, x: Float[Tensor, "b s d"], tokens: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"]
) -> tuple[Float[np.ndarray, " b"], Int[np.ndarray, " b"]]:
    """Summed loss of every text's tokens given those before them, and how many tokens those are.

    ``x`` is the stream behind the last block. Only real tokens are unembedded, some at a time,
    because the vocabulary is large.
    """
    counted = mask[:, :-1] & mask[:, 1:]
    stream, wanted = x[:, :-1][counted], tokens[:, 1:][counted]
    parts = [
        torch.nn.functional.cross_entropy(model.unembed(some).float(), ids, reduction="none")
        for some, ids in zip(stream.split(UNEMBEDDED), wanted.split(UNEMBEDDED), strict=True)
    ]
    loss = torch.zeros(counted.shape, dtype=torch.float64)
    loss[counted.cpu()] = torch.cat(parts).double().cpu()
    return loss.sum(1).numpy(), counted.sum(1).cpu().numpy()
