"""Multiple-choice questions as token arrays, in every cyclic order of their options. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from tasks.answers import Ids, begin_alike
from tasks.chat import Asked, begun
from tasks.errors import TaskError
from tasks.files import left_out_lines
from tasks.mcq_bias import MCQBias, letter_tokens
from tasks.mcq_files import read_question_file, read_questions
from tasks.questions import LETTERS, Question, bank
from tasks.tokenize import encode, pad_id, single_token, unknown_words

TRAIN_SHARE = 0.4
"""Of the questions of a file, this share is for choosing an edit, the rest for testing it."""


@dataclass(frozen=True)
class Items:
    """Questions with equally many options; left-padded prompts that end where the letter follows.

    letters   token ids of " A", " B"... as answers, one per option
    names     the same as an edit's direction names them
    gold      index of the right letter
    orders    how many rows in a row are one question, in as many orders of its options

    A tokenizer that cuts " A" into a space and the letter is asked for the letter after a space.
    ``bos`` and ``chat`` say how the questions are put to the model: see
    :meth:`tasks.base.Task.pairs`.
    """

    questions: tuple[Question, ...]
    tokens: Int[np.ndarray, "n pos"]
    mask: Bool[np.ndarray, "n pos"]
    gold: Int[np.ndarray, " n"]
    letters: Int[np.ndarray, " k"]
    names: tuple[str, ...]
    layout: str = "line"
    bos: bool | None = None
    chat: str = ""
    orders: int = 1

    def __len__(self) -> int:
        return len(self.gold)

    @property
    def n_options(self) -> int:
        """How many options every question has."""
        return len(self.letters)

    def __getitem__(self, rows: Any) -> Items:
        chosen = tuple(self.questions[i] for i in np.arange(len(self))[rows])
        return replace(
            self,
            questions=chosen,
            tokens=self.tokens[rows],
            mask=self.mask[rows],
            gold=self.gold[rows],
            orders=1,
        )

    def asked(self, which: slice) -> Items:
        """Some of the questions, each in all its orders."""
        first, last, _ = which.indices(len(self) // self.orders)
        rows = slice(first * self.orders, last * self.orders)
        return replace(self[rows], orders=self.orders)


def make_items(
    tokenizer: Any,
    questions: Sequence[Question],
    layout: str = "line",
    longest: int | None = None,
    bos: bool | None = None,
    chat: str = "",
) -> Items:
    """The questions as arrays; those with more than ``longest`` tokens are left out.

    A question is left out as well where another order of its options is too long.

    Raises:
        TaskError: none is left, they differ in their number of options, or a letter is not one
            token.
    """
    most = max((len(q.options) for q in questions), default=1)
    asked = Asked(begun(tokenizer, bos, chat), chat, MCQBias.chat)
    apart = _letters_apart(asked, layout, most)
    space = apart[0] if apart else ()

    def ids_of(question: Question) -> list[int]:
        return [*encode(asked.tokenizer, asked.text(question.text(layout))), *space]

    def fits(question: Question) -> bool:
        orders = (question.turned(by) for by in range(len(question.options)))
        return longest is None or all(len(ids_of(order)) <= longest for order in orders)

    kept = [(q, ids_of(q)) for q in questions if fits(q)]
    counts = {len(q.options) for q, _ in kept}
    if len(counts) != 1:
        raise TaskError(
            f"{len(kept)} of {len(questions)} questions fit the model, with {sorted(counts)} "
            f"options; at least one is needed, all with equally many options"
        )
    width = max(len(ids) for _, ids in kept)
    tokens = np.full((len(kept), width), pad_id(tokenizer))
    mask = np.zeros(tokens.shape, dtype=bool)
    for row, (_, ids) in enumerate(kept):
        tokens[row, width - len(ids) :] = ids
        mask[row, width - len(ids) :] = True
    gold = np.array([q.gold for q, _ in kept])
    k = counts.pop()
    letters = np.array(apart[1][:k]) if apart else letter_ids(tokenizer, k)
    names = tuple(f"#{i}" for i in letters) if apart else tuple(f" {x}" for x in LETTERS[:k])
    asked_so = layout, bos, chat
    return Items(tuple(q for q, _ in kept), tokens, mask, gold, letters, names, *asked_so)


def _letters_apart(asked: Asked, layout: str, n_options: int) -> tuple[Ids, list[int]] | None:
    """What all letters begin with and their own tokens, where " A" is not one token; else None."""
    tokenizer = asked.tokenizer
    if asked.form:
        return _letters_of_chat(asked, layout, n_options)
    if all(single_token(tokenizer, f" {x}") is not None for x in LETTERS[:n_options]):
        return None
    # "_" stands before the letter so that no tokenizer adds a space of its own to it.
    before = encode(tokenizer, "_", bos=False)
    spaces = encode(tokenizer, "_ _", bos=False)[len(before) : -1]
    letters = [encode(tokenizer, f"_{x}", bos=False)[len(before) :] for x in LETTERS[:n_options]]
    if len(spaces) != 1 or any(len(ids) != 1 for ids in letters):
        return None
    return tuple(spaces), [ids[0] for ids in letters]


def _letters_of_chat(asked: Asked, layout: str, n_options: int) -> tuple[Ids, list[int]]:
    """The same where a reply begins; `TaskError` where a letter is not one token there."""
    letters = [letter_tokens(asked, letter, layout) for letter in LETTERS[:n_options]]
    shared = begin_alike(letters)
    odd = [x for x, ids in zip(LETTERS, letters, strict=False) if len(ids) != shared + 1]
    if odd:
        raise TaskError(f"letters that are not one token where a reply begins: {', '.join(odd)}")
    return letters[0][:shared], [ids[shared] for ids in letters]


def letter_ids(tokenizer: Any, n_options: int) -> Int[np.ndarray, " k"]:
    """Token ids of the letters as answers.

    Raises:
        TaskError: a letter that is not one token.
    """
    tokens = [single_token(tokenizer, f" {letter}") for letter in LETTERS[:n_options]]
    if None in tokens:
        bad = ", ".join(repr(f" {x}") for x, i in zip(LETTERS, tokens, strict=False) if i is None)
        raise TaskError(f"letters that are not one token for this tokenizer: {bad}")
    return np.array(tokens)


def in_all_orders(tokenizer: Any, items: Items) -> Items:
    """Every question in every cyclic order of its options, orders of one question side by side."""
    turned = [q.turned(by) for q in items.questions for by in range(items.n_options)]
    every = make_items(tokenizer, turned, items.layout, bos=items.bos, chat=items.chat)
    return replace(every, orders=items.n_options)


def draw_questions(
    tokenizer: Any, n: int, seed: int, split: str, n_options: int = 4
) -> list[Question]:
    """Distinct built-in questions of a split, the right option equally often at every place.

    Raises:
        TaskError: the tokenizer does not know the words of the built-in questions.
    """
    rng = np.random.default_rng(seed)
    entries = [
        entry
        for entry in bank()
        if len(entry.wrong) >= n_options - 1
        and not unknown_words(tokenizer, " ".join((entry.stem, entry.answer, *entry.wrong)))
    ]
    if not entries:
        raise TaskError("this tokenizer knows the words of none of the built-in questions")
    questions: dict[Question, None] = {}
    for _ in range(1000 * n):
        if len(questions) == n:
            break
        entry = entries[rng.integers(len(entries))]
        question = entry.ask(rng, n_options, len(questions) % n_options)
        if question.held_out() == (split == "test"):
            questions[question] = None
    return list(questions)


def commonest_options(path: str | Path, skip_bad: bool = False) -> int:
    """How many options most questions of a file have."""
    questions = read_questions(path, skip_bad=skip_bad)
    counts = np.bincount([len(question.options) for question in questions])
    return int(counts.argmax())


def not_asked(path: str | Path, n_options: int, skip_bad: bool = False) -> tuple[str, ...]:
    """How many rows of a file are no questions with so many options, for which reason."""
    file = read_question_file(path, skip_bad=skip_bad)
    counts = Counter(file.left_out)
    for question, times in Counter(file.questions).items():
        if (k := len(question.options)) != n_options:
            counts[f"{k} options, where most questions have {n_options}"] += 1
        counts["the same question again"] += times - 1
    return tuple(left_out_lines(+counts))


def unknown_share(tokenizer: Any, questions: Sequence[Question]) -> float:
    """Share of the questions' words that the tokenizer can only write as its unknown token."""
    texts = [q.text() for q in questions]
    unknown = sum(len(unknown_words(tokenizer, text)) for text in texts)
    return unknown / max(sum(len(text.split()) for text in texts), 1)


def file_questions(
    path: str | Path, seed: int, split: str, n_options: int = 4, skip_bad: bool = False
) -> list[Question]:
    """A file's questions with so many options, the right one put at every place equally often."""
    questions = list(dict.fromkeys(read_questions(path, skip_bad=skip_bad)))
    questions = [q for q in questions if len(q.options) == n_options]
    order = np.random.default_rng(seed).permutation(len(questions))
    first = round(TRAIN_SHARE * len(order))
    rows = order[:first] if split == "train" else order[first:]
    if not len(rows):
        raise TaskError(f"{path} has no question with {n_options} options for split {split}")
    return [questions[row].with_gold(i % n_options) for i, row in enumerate(rows)]


def random_questions(tokenizer: Any, n: int, seed: int, n_options: int = 4) -> list[Question]:
    """Questions of random words, to which nothing is the answer; the right place is a formality."""
    rng = np.random.default_rng(seed)
    texts = {word for entry in bank() for word in (entry.answer, *entry.wrong)}
    words = [word for word in sorted(texts) if not unknown_words(tokenizer, word)]
    if len(words) < n_options + 1:
        raise TaskError("this tokenizer knows too few words for random questions")
    questions = []
    for i in range(n):
        drawn = [words[j] for j in rng.choice(len(words), n_options + 4, replace=False)]
        stem = " ".join(drawn[n_options:])
        questions.append(Question(f"{stem}?", tuple(drawn[:n_options]), i % n_options))
    return questions
