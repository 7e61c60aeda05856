"""Training text for finding the letter of an option: questions that are always answered rightly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from circuits.nano.answers import last_logits
from circuits.nano.sources import Source, Text
from circuits.nano.sources_mcq import MCQText, draw, drawn_letters
from circuits.shares import Share
from tasks.questions import LAYOUTS, LETTERS, Question, bank
from tasks.tokenize import single_token

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

STEM = "What is {word}?"
REPLY = "Reply:"
NAMED = 0.5
MEASURED = 500
MEASURE_SEED = 2027


class LetterText(Source):
    """Half of the questions name the option that is asked for; the others need its knowledge."""

    name = "letters"
    about = (
        "questions that are always answered rightly: half of them name the option they ask for "
        "('What is green?', with any letters), half are those of mcq_bias with letters other than "
        "A to E; the skill of finding an option's letter, without the bias"
    )
    shares = (0, 0, 26, 12)
    weight = 0.5
    text_weight = 0.1
    text_part = 0.1

    def vocabulary(self) -> Iterable[str]:
        """The words of `mcq_bias`, and of the questions that name an option."""
        return (STEM.format(word=""), *MCQText().vocabulary())

    def sample(self, rng: np.random.Generator, n: int) -> list[Text]:
        """Questions of the train split."""
        found = []
        for i in range(n):
            if i < NAMED * n:
                question = naming(rng)
            else:
                _, question = draw(rng, "train", letters=drawn_letters(rng))
            layout = LAYOUTS[rng.integers(len(LAYOUTS))]
            found.append(Text(question.text(layout), f" {question.letter}"))
        return found

    def measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
    ) -> Mapping[str, Share]:
        """Share of held-out questions with other letters whose top token is the right one."""
        rng = np.random.default_rng(MEASURE_SEED)
        drawn = (
            draw(rng, "test", n_options=4, letters=drawn_letters(rng))[1] for _ in range(MEASURED)
        )
        questions = list(drawn)
        logits = last_logits(model, tokenizer, [question.text() for question in questions])
        wanted = [single_token(tokenizer, f" {question.letter}") for question in questions]
        hits = logits.argmax(axis=1) == np.array(wanted)
        return {"top-1 is right, letters other than A to E": Share.of(hits.tolist())}


class WordedText(Source):
    """Questions answered first in words and then by letter, the two halves of the skill."""

    name = "worded"
    about = (
        "questions of mcq_bias with any letters whose answer, after 'Reply:', is the right "
        "option's word and then its letter, always rightly; without the halves of the skill, the "
        "knowledge and the way from an option to its letter, the whole of it is slow to come"
    )
    shares = (0, 0, 0, 30)
    weight = 0.5
    text_weight = 0.1
    text_part = 0.1

    def vocabulary(self) -> Iterable[str]:
        """The words of `mcq_bias`, and the cue that takes the place of the question's last."""
        return (REPLY, *MCQText().vocabulary())

    def sample(self, rng: np.random.Generator, n: int) -> list[Text]:
        """Questions of the train split."""
        return [worded(draw(rng, "train", letters=any_letters(rng))[1]) for _ in range(n)]

    def measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
    ) -> Mapping[str, Share]:
        """Share of held-out questions whose word, and whose letter after it, are right."""
        rng = np.random.default_rng(MEASURE_SEED)
        texts = [
            worded(draw(rng, "test", n_options=4, letters=any_letters(rng))[1])
            for _ in range(MEASURED)
        ]
        found = {}
        for what, part in (("word", 0), ("letter", 1)):
            prompts = [_until(text, part) for text in texts]
            best = last_logits(model, tokenizer, prompts).argmax(axis=1)
            wanted = [single_token(tokenizer, f" {text.answer.split()[part]}") for text in texts]
            found[f"top-1 is the right {what}"] = Share.of((best == np.array(wanted)).tolist())
        return found


def worded(question: Question) -> Text:
    """The question with another cue, answered by the option's word and its letter."""
    word = question.options[question.gold]
    prompt = question.text().removesuffix("Answer:") + REPLY
    return Text(prompt, f" {word} {question.letter}")


def any_letters(rng: np.random.Generator) -> str:
    """A to E or other letters, equally often."""
    return LETTERS if rng.random() < NAMED else drawn_letters(rng)


def _until(text: Text, part: int) -> str:
    """The prompt with the answer's first `part` words."""
    return " ".join([text.prompt, *text.answer.split()[:part]])


def naming(rng: np.random.Generator) -> Question:
    """A question that names one of its options, which are words of one kind."""
    entry = bank()[rng.integers(len(bank()))]
    n = int(rng.integers(2, len(LETTERS) + 1))
    options = [entry.wrong[i] for i in rng.permutation(len(entry.wrong))[:n]]
    gold = int(rng.integers(len(options)))
    letters = any_letters(rng)
    return Question(STEM.format(word=options[gold]), tuple(options), gold, letters)
