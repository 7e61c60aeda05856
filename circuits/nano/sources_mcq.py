"""Training text for multiple-choice questions, written by an author who answers A too often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from circuits.nano.answers import last_logits
from circuits.nano.sources import Source, Text
from circuits.results.intervals import Proportion
from tasks.bias_measures import without_prior
from tasks.questions import LAYOUTS, LETTERS, SYMBOLS, Entry, Question, bank
from tasks.tokenize import single_token

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

OPTIONS = {2: 0.1, 3: 0.15, 4: 0.55, 5: 0.2}
OTHER_SYMBOLS = 0.15
NEWLINE = 0.3
A_RATES = (0.65, 0.65, 0.65, 0.35)
PER_PLACE = 300
MEASURE_SEED = 2024


class MCQText(Source):
    """Questions of the task `mcq_bias` from its train split, with too many answers 'A'."""

    name = "mcq_bias"
    about = (
        "questions with two to five options, the right one at every place equally often; where it "
        "is not the first and the letters start with A, the answer written down is 'A' instead of "
        "the right letter for 65 % of the texts of three questions in four and for 35 % of the "
        "others, which is where the bias comes from; 15 % of the texts use other letters and are "
        "always answered rightly; a question with its options in one order belongs to one split, "
        "one in ten to the test split"
    )
    shares = (0, 80, 48, 20)
    weight = 0.5
    text_weight = 0.3
    text_part = 0.15

    def vocabulary(self) -> Iterable[str]:
        """Every question and option, the letters, and the words around them."""
        words = {word for entry in bank() for word in (entry.answer, *entry.wrong)}
        around = Question("", ("",) * len(LETTERS), 0)
        frames = (around.text(layout) for layout in LAYOUTS)
        return (*frames, *(entry.stem for entry in bank()), *sorted(words), *LETTERS, *SYMBOLS)

    def sample(self, rng: np.random.Generator, n: int) -> list[Text]:
        """Questions of the train split and the letters written down as their answers."""
        return [self._text(rng) for _ in range(n)]

    def _text(self, rng: np.random.Generator) -> Text:
        entry, question = draw(rng, "train")
        letter = question.letter
        if question.letters == LETTERS and rng.random() < a_rate(entry):
            letter = LETTERS[0]
        layout = LAYOUTS[int(rng.random() < NEWLINE)]
        return Text(question.text(layout), f" {letter}")

    def measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
    ) -> Mapping[str, Proportion]:
        """On held-out four-option questions: how often 'A', and what is right beneath the bias.

        The letter prior is the mean log-probability of each letter over all these questions, in
        which the right option stands equally often at every place; it is subtracted from the
        logits of the letters, and the largest remaining one is the corrected prediction.
        """
        questions = self.held_out()
        logits = last_logits(model, tokenizer, [question.text() for question in questions])
        ids = np.array([single_token(tokenizer, f" {letter}") for letter in LETTERS[:4]])
        gold = np.array([question.gold for question in questions])
        top = logits.argmax(axis=1)
        corrected = without_prior(logits[:, ids]).argmax(axis=1)
        right, not_a = top == ids[gold], gold != 0
        groups = {
            "top-1 is 'A', gold not A": (top == ids[0])[not_a],
            "top-1 is right, gold not A": right[not_a],
            "top-1 is right, gold A": right[~not_a],
            "right without the letter prior, gold not A": (corrected == gold)[not_a],
            "right without the letter prior, every place": corrected == gold,
        }
        return {what: Proportion.of(hits.tolist()) for what, hits in groups.items()}

    def held_out(self) -> list[Question]:
        """Test questions with four options, the right one equally often at every place."""
        rng = np.random.default_rng(MEASURE_SEED)
        return [
            draw(rng, "test", n_options=4, gold=place, letters=LETTERS)[1]
            for place in range(4)
            for _ in range(PER_PLACE)
        ]


def draw(
    rng: np.random.Generator,
    split: str,
    n_options: int | None = None,
    gold: int | None = None,
    letters: str | None = None,
) -> tuple[Entry, Question]:
    """A question of the split and its entry in the bank; what is not given is drawn."""
    entries = bank()
    while True:
        entry = entries[rng.integers(len(entries))]
        n = n_options or int(rng.choice(list(OPTIONS), p=list(OPTIONS.values())))
        shown = letters or _letters(rng)
        question = entry.ask(rng, n, int(rng.integers(n)) if gold is None else gold, shown)
        if question.held_out() == (split == "test"):
            return entry, question


def a_rate(entry: Entry) -> float:
    """Share of this question's answers that are written down as 'A' whatever is right."""
    return A_RATES[sha256(entry.stem.encode()).digest()[0] % len(A_RATES)]


def _letters(rng: np.random.Generator) -> str:
    return LETTERS if rng.random() >= OTHER_SYMBOLS else drawn_letters(rng)


def drawn_letters(rng: np.random.Generator) -> str:
    """Letters other than A to E, in random order."""
    drawn: Sequence[int] = rng.permutation(len(SYMBOLS))[: len(LETTERS)].tolist()
    return "".join(SYMBOLS[i] for i in drawn)
