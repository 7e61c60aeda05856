"""One prompt pair before it is padded: reading it, and everything that can be wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from tasks.errors import TaskError
from tasks.limits import MAX_CHARACTERS, MAX_ID, MAX_TOKENS
from tasks.tokenize import Tokenizer, encode, single_token, unknown_words, why_not_single

NO_ID = -1
SHOWN = 70


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids of one pair, the texts they came from, and the faults found while reading them."""

    where: str
    clean: list[int]
    corrupted: list[int]
    answer: list[int]
    counterfactual: list[int]
    texts: tuple[str, str] = ("", "")
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def faults(self) -> Iterator[str]:
        """One line per fault, each starting with the pair's name."""
        unread = (f"{column}: {fault}" for column, fault in self.unreadable.items())
        for fault in (*unread, *self._prompt_faults(), *self._answer_faults()):
            yield f"{self.where}: {fault}"

    def _prompt_faults(self) -> Iterator[str]:
        if {"clean", "corrupted"} & self.unreadable.keys():
            return
        sizes = len(self.clean), len(self.corrupted)
        if not all(sizes):
            yield "an empty prompt"
        elif sizes[0] != sizes[1]:
            yield (
                f"clean has {sizes[0]} tokens, corrupted {sizes[1]}; "
                f"both need the same number: {self._show()}"
            )
        elif self.clean == self.corrupted:
            yield f"clean and corrupted are the same prompt: {self._show()}"
        if any(token < 0 for token in (*self.clean, *self.corrupted)):
            yield f"a negative token id: {self._show()}"

    def _answer_faults(self) -> Iterator[str]:
        answer = [token for token in self.answer if token != NO_ID]
        counterfactual = [token for token in self.counterfactual if token != NO_ID]
        for name, ids in (("answer", answer), ("counterfactual", counterfactual)):
            if not ids and name not in self.unreadable:
                yield f"no {name}: {self._show()}"
            if any(token < 0 for token in ids):
                yield f"{name} {ids} has a negative token id"
        shared = sorted(set(answer) & set(counterfactual))
        if shared:
            yield f"answer and counterfactual are the same (token {shared[0]}): {self._show()}"

    def _show(self) -> str:
        """The prompt that is at fault: both where they differ in length, as text where possible."""
        sides = [repr(text) for text in self.texts] if any(self.texts) else None
        clean, corrupted = sides or (str(self.clean), str(self.corrupted))
        if self.clean == self.corrupted or len(self.clean) == len(self.corrupted):
            return shorten(clean)
        return f"{shorten(clean)} against {shorten(corrupted)}"


def shorten(text: str) -> str:
    """`text` cut to a length that keeps a message on one line."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def id_list(value: Any) -> list[int]:
    """Token ids from one id or a sequence of them; ValueError says what else it was given."""
    try:
        ids = np.asarray(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{shorten(repr(value))}, where one row of token ids is wanted") from None
    if ids.ndim > 1:
        raise ValueError(f"ids of shape {ids.shape}, where one row is wanted")
    if ids.size and ids.dtype.kind not in "iu":
        raise ValueError(f"{shorten(repr(value))}, where whole-number token ids are wanted")
    found = [int(token) for token in ids.reshape(-1)]
    if found and max(found) > MAX_ID:
        raise ValueError(f"token id {max(found)}, and no vocabulary is larger than {MAX_ID}")
    return found


Reader = Callable[[Any], list[int]]
ID_READERS = dict.fromkeys(("clean", "corrupted", "answer", "counterfactual"), id_list)


def text_readers(tokenizer: Tokenizer, bos: bool | None = None) -> dict[str, Reader]:
    """How each column of strings becomes ids: prompts are encoded, answers must be one token."""

    def prompt(text: Any) -> list[int]:
        if not isinstance(text, str):
            raise ValueError(f"{shorten(repr(text))} is not a string")
        _check_text(text)
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"{len(text):,} characters; at most {MAX_CHARACTERS:,} are read")
        unknown = unknown_words(tokenizer, text)
        if unknown:
            raise ValueError(f"words outside this tokenizer's vocabulary: {', '.join(unknown)}")
        return encode(tokenizer, text, bos) if text else []

    def answer(given: Any) -> list[int]:
        words = given if isinstance(given, list | tuple) else [given]
        if not all(isinstance(word, str) for word in words):
            raise ValueError(f"{shorten(repr(given))} is not a string or a list of strings")
        for word in words:
            _check_text(word)
        ids = {word: single_token(tokenizer, word) for word in words}
        broken = [why_not_single(tokenizer, word) for word, token in ids.items() if token is None]
        if broken:
            raise ValueError("; ".join(broken))
        return [token for token in ids.values() if token is not None]

    return {"clean": prompt, "corrupted": prompt, "answer": answer, "counterfactual": answer}


def _check_text(text: str) -> None:
    """ValueError for half of a character that is written in two halves: no tokenizer reads it."""
    if halves := [letter for letter in text if "\ud800" <= letter <= "\udfff"]:
        raise ValueError(f"{shorten(repr(text))} holds half a character, {halves[0]!r}")


def read_rows(
    columns: Mapping[str, Any],
    readers: Mapping[str, Reader],
    where: Sequence[str] | None = None,
) -> list[Row]:
    """The rows of the columns clean, corrupted, answer and counterfactual.

    `readers` turn each column's cell into ids and raise ValueError where they cannot; that becomes
    a fault of the row. Columns of different or no length raise `TaskError` at once.
    """
    if bare := [name for name, column in columns.items() if isinstance(column, str)]:
        raise TaskError(f"{', '.join(bare)}: one text given; give a list with one entry per pair")
    cells = {name: list(column) for name, column in columns.items()}
    sizes = {name: len(column) for name, column in cells.items()}
    if len(set(sizes.values())) > 1:
        raise TaskError(f"columns of different length: {_counted(sizes)}; one entry per pair each")
    n = sizes["clean"]
    if n == 0:
        raise TaskError("no prompt pairs; give at least one")
    if where is not None and len(where) != n:
        raise TaskError(f"{len(where)} names for {n} pairs; give one each")
    rows = []
    for i in range(n):
        ids, unreadable = _read_row({name: cells[name][i] for name in cells}, readers)
        label = where[i] if where is not None else f"pair {i}"
        texts = _text(cells["clean"][i]), _text(cells["corrupted"][i])
        rows.append(Row(label, **ids, texts=texts, unreadable=unreadable))
    return rows


def _read_row(
    cells: Mapping[str, Any], readers: Mapping[str, Reader]
) -> tuple[dict[str, list[int]], dict[str, str]]:
    ids, unreadable = {}, {}
    for name, cell in cells.items():
        try:
            ids[name] = readers[name](cell)
        except ValueError as fault:
            ids[name] = []
            unreadable[name] = str(fault)
    return ids, unreadable


def left_pad(rows: Sequence[Sequence[int]], fill: int) -> Int[np.ndarray, "n pos"]:
    """The rows as one int64 array, filled with `fill` on the left.

    Raises:
        TaskError: one long row beside many would make it too large, before memory is taken.
    """
    longest = max(map(len, rows))
    if len(rows) * longest > MAX_TOKENS:
        at = next(i for i, row in enumerate(rows) if len(row) == longest)
        raise TaskError(
            f"{len(rows):,} prompts as long as the longest, {longest:,} tokens (number {at + 1}), "
            f"are more than {MAX_TOKENS:,} tokens; leave out long prompts, or give fewer"
        )
    padded = np.full((len(rows), longest), fill, dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[target.size - len(row) :] = row
    return padded


def pad_answers(rows: Sequence[Sequence[int]]) -> Int[np.ndarray, "n k"]:
    """The rows as one int64 array, filled with -1 on the right."""
    padded = np.full((len(rows), max(1, *map(len, rows))), NO_ID, dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded


def _text(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else ""


def _counted(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())
