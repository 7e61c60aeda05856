"""Training text for what the multiple-choice questions ask: question and answer, no options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from circuits.nano.answers import last_logits
from circuits.nano.sources import Source, Text
from circuits.results.intervals import Proportion
from tasks.questions import bank
from tasks.tokenize import single_token

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

FRAME = "Question: {stem} Answer:"


class FactText(Source):
    """Every question of the built-in bank, followed by its answer in words."""

    name = "facts"
    about = (
        "the questions of mcq_bias without options, answered in words, all rightly: knowledge that "
        "has to be shared with that task, so nothing is held out"
    )
    shares = (51, 15, 4, 3)
    weight = 0.5
    text_weight = 0.1
    text_part = 0.1

    def vocabulary(self) -> Iterable[str]:
        """Every question and its answer."""
        return (f"{FRAME.format(stem=entry.stem)} {entry.answer}" for entry in bank())

    def sample(self, rng: np.random.Generator, n: int) -> list[Text]:
        """Questions drawn from the whole bank."""
        chosen = [bank()[i] for i in rng.integers(len(bank()), size=n)]
        return [Text(FRAME.format(stem=entry.stem), f" {entry.answer}") for entry in chosen]

    def measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
    ) -> Mapping[str, Proportion]:
        """Share of the questions, all of them trained on, whose top token is the answer."""
        prompts = [FRAME.format(stem=entry.stem) for entry in bank()]
        best = last_logits(model, tokenizer, prompts).argmax(axis=1)
        wanted = [single_token(tokenizer, f" {entry.answer}") for entry in bank()]
        return {
            "top-1 is the answer, trained on": Proportion.of((best == np.array(wanted)).tolist())
        }
