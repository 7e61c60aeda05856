"""Training text for finding the letter of an option: questions that are always answered rightly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from circuits.nano.answers import last_logits
from circuits.nano.sources import Source, Text
from circuits.nano.sources_mcq import MCQText, draw, drawn_letters
from circuits.results.intervals import Proportion
from tasks.questions import LETTERS
from tasks.tokenize import single_token

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

OPTIONS = 4
MEASURED = 500
MEASURE_SEED = 2027


class LetterText(Source):
    """The simplest questions of `mcq_bias`, for the time before the bias."""

    name = "letters"
    about = (
        "questions of mcq_bias with four options on one line, always answered rightly; alone with "
        "the facts they ask for they teach the way from an option to its letter in about a "
        "thousand steps, while beside other tasks, other letters or wrong answers it was not found "
        "in fifteen thousand"
    )
    shares = (205, 40, 0, 0)
    weight = 1.0
    text_weight = 0.1
    text_part = 0.1

    def vocabulary(self) -> Iterable[str]:
        """The words of `mcq_bias`."""
        return MCQText().vocabulary()

    def sample(self, rng: np.random.Generator, n: int) -> list[Text]:
        """Questions of the train split with their right letters."""
        drawn = (draw(rng, "train", OPTIONS, letters=LETTERS)[1] for _ in range(n))
        return [Text(question.text(), f" {question.letter}") for question in drawn]

    def measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
    ) -> Mapping[str, Proportion]:
        """Share of held-out questions with other letters whose top token is the right one."""
        rng = np.random.default_rng(MEASURE_SEED)
        drawn = (draw(rng, "test", OPTIONS, letters=drawn_letters(rng))[1] for _ in range(MEASURED))
        questions = list(drawn)
        logits = last_logits(model, tokenizer, [question.text() for question in questions])
        wanted = [single_token(tokenizer, f" {question.letter}") for question in questions]
        hits = logits.argmax(axis=1) == np.array(wanted)
        return {"top-1 is right, letters other than A to E": Proportion.of(hits.tolist())}
