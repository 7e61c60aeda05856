"""Train the embedded model: `python -m circuits.nano.train --tasks ioi --out DIR --seed 0`.

A small GPT-2 learns to continue the texts of its sources (circuits/nano/sources.py): next-token
loss on the whole text plus the loss on the answer alone. Every step draws one source by weight and
a fresh batch from it, from a generator made of the seed and the step, so a run that was stopped
goes on bit for bit with `--resume`. At the end the model is measured on held-out text, and the
directory is written with a card of what was found.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

from circuits.nano.recipe import Recipe
from circuits.nano.sources import Source, Text, sources
from circuits.nano.words import build_tokenizer
from tasks.errors import RunError, TaskError
from tasks.tokenize import encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IGNORED = -100
CHECKPOINT = "checkpoint.pt"
CHECKPOINT_EVERY = 100

Report = Callable[[int, str, float], None]


@dataclass(slots=True)
class Run:
    """A training run between two steps; `step` is the next one."""

    recipe: Recipe
    sources: list[Source]
    tokenizer: PreTrainedTokenizerFast
    model: GPT2LMHeadModel
    optimizer: torch.optim.AdamW
    step: int = 0

    @classmethod
    def start(cls, recipe: Recipe) -> Run:
        """The run before its first step, with weights drawn from the recipe's seed."""
        texts = sources(recipe.tasks)
        words = (word for source in texts for word in source.vocabulary())
        tokenizer = build_tokenizer(words, recipe.context)
        model = _new_model(recipe, tokenizer)
        return cls(recipe, texts, tokenizer, model, _optimizer(recipe, model))

    def advance(self) -> tuple[str, float]:
        """Takes one step and returns the name of the source it was drawn for, and its loss."""
        rng = np.random.default_rng((self.recipe.seed, self.step))
        weights = np.array([source.weight for source in self.sources])
        source = self.sources[rng.choice(len(self.sources), p=weights / weights.sum())]
        texts = source.sample(rng, source.batch)
        ids, answers = batch_of(self.tokenizer, texts, self.recipe.context)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        inputs = ids.where(ids != IGNORED, self.tokenizer.eos_token_id)
        loss = text_loss(self.model(input_ids=inputs).logits, ids, answers, source)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        return source.name, loss.item()

    def save(self, path: Path) -> None:
        """Writes what `load` needs; an interruption leaves the previous file as it was."""
        state = {"recipe": self.recipe.to_json(), "step": self.step}
        state |= {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint of the same recipe; `RunError` if it is of another."""
        state = torch.load(path, weights_only=True)
        if state["recipe"] != self.recipe.to_json():
            raise RunError(
                f"{path} was written by another recipe: {state['recipe']}, "
                f"not {self.recipe.to_json()}; choose another --out, or delete it"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def train(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    minutes: float | None = None,
    report: Report | None = None,
) -> Run:
    """Runs the recipe to its last step, or for `minutes`, leaving a checkpoint in `out`.

    A checkpoint found in `out` is gone on from with `resume`, and otherwise refused (`RunError`).
    """
    run, checkpoint = Run.start(recipe), out / CHECKPOINT
    out.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        if not resume:
            raise RunError(f"{checkpoint} exists; go on with --resume, or delete it to start anew")
        run.load(checkpoint)
    stop_at = monotonic() + 60 * minutes if minutes is not None else float("inf")
    while run.step < recipe.steps and monotonic() < stop_at:
        name, loss = run.advance()
        if report is not None:
            report(run.step, name, loss)
        if run.step % CHECKPOINT_EVERY == 0:
            run.save(checkpoint)
    run.save(checkpoint)
    return run


def batch_of(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[Text], context: int
) -> tuple[Int[Tensor, "n pos"], Int[Tensor, "n pos"]]:
    """Token ids padded on the right with -100, and the same with everything but answers -100.

    A text is the beginning-of-sequence token, the prompt, the answer and the end-of-sequence token.
    """
    rows, starts = [], []
    for text in texts:
        prompt = encode(tokenizer, text.prompt)
        answer = encode(tokenizer, text.answer, bos=False) if text.answer else []
        rows.append([*prompt, *answer, tokenizer.eos_token_id])
        starts.append((len(prompt), len(prompt) + len(answer)))
        if tokenizer.unk_token_id in rows[-1] or len(rows[-1]) > context:
            raise TaskError(
                f"training text {''.join(text)!r} has words outside its source's vocabulary, "
                f"or more than {context} tokens"
            )
    ids = torch.full((len(rows), max(map(len, rows))), IGNORED)
    answers = ids.clone()
    for i, (row, (start, end)) in enumerate(zip(rows, starts, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        answers[i, start:end] = ids[i, start:end]
    return ids, answers


def text_loss(
    logits: Float[Tensor, "n pos vocab"],
    ids: Int[Tensor, "n pos"],
    answers: Int[Tensor, "n pos"],
    source: Source,
) -> Float[Tensor, ""]:
    """Mean next-token loss over answers, plus `source.text_weight` times that over whole texts."""
    flat = logits[:, :-1].flatten(0, 1)
    loss = source.text_weight * cross_entropy(flat, ids[:, 1:].flatten(), ignore_index=IGNORED)
    if (answers != IGNORED).any():
        loss = loss + cross_entropy(flat, answers[:, 1:].flatten(), ignore_index=IGNORED)
    return loss


def _new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=recipe.context,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return GPT2LMHeadModel(config)


def _optimizer(recipe: Recipe, model: GPT2LMHeadModel) -> torch.optim.AdamW:
    weights = list(model.parameters())
    groups = [
        {"params": [w for w in weights if w.dim() >= 2], "weight_decay": recipe.decay},
        {"params": [w for w in weights if w.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=recipe.betas)


if __name__ == "__main__":
    from circuits.nano.command import main

    main()
