"""Multiple-choice questions as text: the options, their letters, and where the right one stands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from importlib.resources import files

import numpy as np

LETTERS = "ABCDE"
SYMBOLS = "FGHJKLMNPQRSTUVWXYZ"
LAYOUTS = ("line", "newline")
HELD_OUT_OF = 10


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its options in the order shown; `gold` is the index of the right one."""

    stem: str
    options: tuple[str, ...]
    gold: int
    letters: str = LETTERS

    @property
    def symbols(self) -> str:
        """The letters in use, one per option."""
        return self.letters[: len(self.options)]

    @property
    def letter(self) -> str:
        """The right option's letter."""
        return self.letters[self.gold]

    def text(self, layout: str = "line") -> str:
        """The prompt, ending where the letter follows.

        `line` is the one-line form of Li & Gao, arXiv 2405.03205; `newline` puts each option on a
        line of its own.
        """
        return "".join(text for _, text in self.parts(layout))

    def ends(self, layout: str = "line") -> dict[str, int]:
        """Character in `text()` at which each option's letter (`option_A`...) ends, and `gold`'s.

        Names count places, not symbols: `option_A` is the first option whatever its letter.
        """
        ends, at = {}, 0
        for slot, text in self.parts(layout):
            at += len(text)
            if slot:
                ends[slot] = at
        return ends | {"gold": ends[f"option_{LETTERS[self.gold]}"]}

    def parts(self, layout: str) -> list[tuple[str, str]]:
        """(slot, text) pairs that make up the prompt; only the letters have a slot."""
        gap, head = ("\n", "") if layout == "newline" else (" ", " Answer Choices:")
        parts = [("", f"Question: {self.stem}{head}")]
        for place, letter, option in zip(LETTERS, self.letters, self.options, strict=False):
            parts += [("", gap), (f"option_{place}", letter), ("", f": {option}")]
        return [*parts, ("", f"{gap}Answer:")]

    def turned(self, by: int) -> Question:
        """The options moved `by` places down, the last ones coming round to the top."""
        n = len(self.options)
        options = tuple(self.options[(i - by) % n] for i in range(n))
        return replace(self, options=options, gold=(self.gold + by) % n)

    def with_gold(self, place: int) -> Question:
        """The right option swapped with the one at `place`."""
        options = list(self.options)
        options[place], options[self.gold] = options[self.gold], options[place]
        return replace(self, options=tuple(options), gold=place)

    def relabelled(self, place: int) -> Question:
        """The right option's letter swapped with the one at `place`; the options stay."""
        letters = list(self.letters)
        letters[place], letters[self.gold] = letters[self.gold], letters[place]
        return replace(self, letters="".join(letters))

    def held_out(self) -> bool:
        """Whether this question with these options in this order is in the test split, a tenth."""
        key = "|".join((self.stem, *self.options))
        return int.from_bytes(sha256(key.encode()).digest()[:4], "big") % HELD_OUT_OF == 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One question of the bank: its answer, and the words of its kind that are wrong answers."""

    kind: str
    stem: str
    answer: str
    wrong: tuple[str, ...]

    def ask(
        self, rng: np.random.Generator, n_options: int, gold: int, letters: str = LETTERS
    ) -> Question:
        """The question with `n_options` options drawn from its kind, the answer at `gold`."""
        drawn = rng.choice(len(self.wrong), size=n_options - 1, replace=False)
        options = [self.wrong[i] for i in drawn]
        options.insert(gold, self.answer)
        return Question(self.stem, tuple(options), gold, letters)


@cache
def bank() -> tuple[Entry, ...]:
    """The built-in questions: one-word answers, wrong answers of the same kind.

    In `data/mcq.json` a question may name words of its kind that would also be right; they are
    never offered beside it.
    """
    text = (files("tasks") / "data" / "mcq.json").read_text(encoding="utf-8")
    return tuple(
        _entry(kind, group["words"], *question)
        for kind, group in json.loads(text).items()
        for question in group["questions"]
    )


def _entry(
    kind: str, words: Sequence[str], stem: str, answer: str, also_right: Sequence[str] = ()
) -> Entry:
    wrong = tuple(word for word in words if word != answer and word not in also_right)
    return Entry(kind, stem, answer, wrong)
