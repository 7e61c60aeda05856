"""Train the embedded model: `python -m circuits.nano.train --out DIR --seed 0`.

A small GPT-2 learns to continue the texts of its sources (circuits/nano/sources.py): next-token
loss on the whole text plus the loss on the answer alone. Every step holds fresh texts of every
source, from a generator made of the seed and the step, so a run that was stopped goes on bit for
bit with `--resume`. (Steps of one source each, taken in turn, learn several times more slowly.) At
the end the model is measured on held-out text, and the directory is written with a card of what was
found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from circuits.nano.batches import chunks_of, rows_of
from circuits.nano.forward import Network
from circuits.nano.losses import backward
from circuits.nano.recipe import Recipe
from circuits.nano.sources import Source, sources
from circuits.nano.words import build_tokenizer
from tasks.atomic import replacing
from tasks.errors import RunError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_EVERY = 100

Report = Callable[[int, Mapping[str, float]], None]


@dataclass(slots=True)
class Run:
    """A training run between two steps; `step` is the next one.

    `network` holds what is trained; `model` has the same numbers once `network.settle()` is called.
    """

    recipe: Recipe
    sources: list[Source]
    tokenizer: PreTrainedTokenizerFast
    network: Network
    optimizer: torch.optim.AdamW
    step: int = 0

    @classmethod
    def start(cls, recipe: Recipe) -> Run:
        """The run before its first step, with weights drawn from the recipe's seed."""
        texts = sources(recipe.tasks)
        words = (word for source in texts for word in source.vocabulary())
        tokenizer = build_tokenizer(words, recipe.context)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            model = _new_model(recipe, tokenizer)
            torch.manual_seed(recipe.seed)
            network = Network(model, tokenizer)
        return cls(recipe, texts, tokenizer, network, _optimizer(recipe, network.trained()))

    @property
    def model(self) -> GPT2LMHeadModel:
        """The GPT-2 that is trained."""
        return self.network.model

    def advance(self) -> dict[str, float]:
        """Takes one step and returns the loss of each source."""
        rng = np.random.default_rng((self.recipe.seed, self.step))
        rows, owners = [], []
        for i, (source, count) in enumerate(zip(self.sources, self.counts(), strict=True)):
            texts = source.sample(rng, count) if count else []
            rows += rows_of(self.tokenizer, texts, self.recipe.context)
            owners += [i] * count
        parts = [source.text_part for source in self.sources]
        chunks = list(chunks_of(rows, owners, parts, rng))
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        losses = backward(self.network, chunks, self.sources, self.recipe.low)
        nn.utils.clip_grad_norm_(list(self.network.trained()), self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        return dict(zip(self.recipe.tasks, losses.tolist(), strict=True))

    def counts(self) -> list[int]:
        """Texts of each source in the next step."""
        return self.phases()[sum(self.step >= turn for turn in self.recipe.turns)]

    def phases(self) -> list[list[int]]:
        """Texts per step of each source, for every phase; one without texts is like the next."""
        count = len(self.recipe.texts)
        rows = [[source.shares[phase] for source in self.sources] for phase in range(count)]
        equal = [1.0] * len(self.sources)
        shares = [next((row for row in rows[at:] if any(row)), equal) for at in range(count)]
        return [
            [round(texts * share / sum(row)) for share in row]
            for texts, row in zip(self.recipe.texts, shares, strict=True)
        ]

    def save(self, path: Path) -> None:
        """Writes what `load` needs; an interruption leaves the previous file as it was."""
        state = {"recipe": self.recipe.to_json(), "step": self.step}
        state |= {"model": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        with replacing(path) as file:
            torch.save(state, file)

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint of the same recipe; `RunError` if it is of another."""
        state = torch.load(path, weights_only=True)
        if state["recipe"] != self.recipe.to_json():
            raise RunError(
                f"{path} was written by another recipe: {state['recipe']}, "
                f"not {self.recipe.to_json()}; choose another --out, or delete it"
            )
        self.network.load_state_dict(state["model"])
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
        losses = run.advance()
        if report is not None:
            report(run.step, losses)
        if run.step % CHECKPOINT_EVERY == 0:
            run.save(checkpoint)
    run.save(checkpoint)
    run.network.settle()
    return run


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
    return GPT2LMHeadModel(config)


def _optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
    weights = list(parameters)
    groups = [
        {"params": [w for w in weights if w.dim() >= 2], "weight_decay": recipe.decay},
        {"params": [w for w in weights if w.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=recipe.betas, fused=True)


if __name__ == "__main__":
    from circuits.nano.command import main

    main()
