"""Prompt pairs from their cells: token ids as they are, texts and chat messages by a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int

from tasks.answers import Ids, answer_tokens, glued, measured, text_with
from tasks.chat import PLAIN, TEMPLATE, chat_text, check_form, form_of, is_messages
from tasks.errors import TaskError
from tasks.limits import MAX_CHARACTERS, MAX_ID, MAX_TOKENS
from tasks.row import BOTH, NO_ID, Row, shorten
from tasks.tokenize import Tokenizer, encode, unknown_words

T = TypeVar("T")
PROMPTS, ANSWERS = ("clean", "corrupted"), ("answer", "counterfactual")


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
    tokens = [int(token) for token in ids.reshape(-1)]
    if tokens and max(tokens) > MAX_ID:
        raise ValueError(f"token id {max(tokens)}, and no vocabulary is larger than {MAX_ID}")
    return tokens


Cells = Mapping[str, Any]
Reader = Callable[[str, Cells], Row]
"""Makes a row of its name and of its cells clean, corrupted, answer and counterfactual."""


def read_ids(where: str, cells: Cells) -> Row:
    """A row whose cells are token ids; an answer that is given twice counts once."""
    faults: dict[str, str] = {}

    def ids(name: str) -> list[int]:
        return _read(id_list, name, cells[name], faults) or []

    return Row(
        where,
        clean=ids("clean"),
        corrupted=ids("corrupted"),
        answer=list(dict.fromkeys(ids("answer"))),
        counterfactual=list(dict.fromkeys(ids("counterfactual"))),
        unreadable=faults,
    )


def text_readers(tokenizer: Tokenizer, bos: bool | None = None, chat: bool | str = "") -> Reader:
    """What makes rows of strings: prompts are encoded, answers are what follows them.

    A prompt may be chat messages. `chat` is the form of their turns, the tokenizer's template if
    it is empty; where it is given, a plain string is put as a user's message.

    Raises:
        TaskError: an unknown form of chat, or the tokenizer has no template.
    """
    form = form_of(chat)
    if form:
        check_form(tokenizer, form)

    def read(where: str, cells: Cells) -> Row:
        faults: dict[str, str] = {}
        chatty = bool(form) or any(is_messages(cells[name]) for name in PROMPTS)
        # A chat template writes the beginning of its text itself.
        begun = False if chatty and bos is None and form != PLAIN else bos
        prompt = partial(_prompt, tokenizer, form)
        clean, corrupted = (_read(prompt, name, cells[name], faults) for name in PROMPTS)
        row = Row(
            where,
            clean=encode(tokenizer, clean, begun) if clean else [],
            corrupted=encode(tokenizer, corrupted, begun) if corrupted else [],
            answer=[],
            counterfactual=[],
            texts=(clean or _text(cells["clean"]), corrupted or _text(cells["corrupted"])),
            unreadable=faults,
        )
        return _answered(row, tokenizer, cells, begun)

    return read


def _answered(row: Row, tokenizer: Tokenizer, cells: Cells, bos: bool | None) -> Row:
    """The row with its answers in their place: see :mod:`tasks.answers`."""
    faults = dict(row.unreadable)
    prompts = [text for text, ids in zip(row.texts, (row.clean, row.corrupted), strict=True) if ids]
    words = [_read(_words, name, cells[name], faults) or [] for name in ANSWERS]
    read = partial(_each_word, tokenizer, prompts, bos)
    pairs = zip(ANSWERS, words, strict=True)
    right, wrong = (_read(read, name, every, faults) or [] for name, every in pairs)
    row = replace(row, unreadable=faults)
    if not right or not wrong:
        answer, counterfactual = ([ids[0] for ids in every] for every in (right, wrong))
        return replace(row, answer=answer, counterfactual=counterfactual)
    try:
        place = measured(right, wrong)
    except ValueError as fault:
        return replace(row, unreadable=faults | {BOTH: f"{_named(words)}: {fault}"})
    shared, texts = place.shared, row.texts
    if shared and len(prompts) == len(texts):
        clean, corrupted = (text_with(tokenizer, t, words[0][0], shared, bos) for t in texts)
        texts = clean, corrupted
    remarks = (glued(prompt, word) for prompt in prompts for every in words for word in every)
    return replace(
        row,
        clean=[*row.clean, *shared],
        corrupted=[*row.corrupted, *shared],
        answer=list(place.answer),
        counterfactual=list(place.counterfactual),
        texts=texts,
        shared=len(shared),
        rest=place.rest,
        longer=place.longer,
        remark=next(filter(None, remarks), ""),
    )


def _prompt(tokenizer: Tokenizer, chat: str, given: Any) -> str:
    """The text of a prompt; ValueError where it has none."""
    if is_messages(given):
        given = chat_text(tokenizer, given, chat or TEMPLATE)
    elif not isinstance(given, str):
        raise ValueError(f"{shorten(repr(given))} is not a string")
    elif chat and given:
        given = chat_text(tokenizer, [{"role": "user", "content": given}], chat)
    _check_text(given)
    if len(given) > MAX_CHARACTERS:
        raise ValueError(f"{len(given):,} characters; at most {MAX_CHARACTERS:,} are read")
    if unknown := unknown_words(tokenizer, given):
        raise ValueError(f"words outside this tokenizer's vocabulary: {', '.join(unknown)}")
    return str(given)


def _words(given: Any) -> list[str]:
    """The answers of a cell; ValueError where they are no strings."""
    words = given if isinstance(given, list | tuple) else [given]
    if not all(isinstance(word, str) for word in words):
        raise ValueError(f"{shorten(repr(given))} is not a string or a list of strings")
    return list(words)


def _each_word(
    tokenizer: Tokenizer, prompts: Sequence[str], bos: bool | None, words: Sequence[str]
) -> list[Ids]:
    """The tokens of every answer, none twice; ValueError lists all that cannot follow."""
    distinct: dict[Ids, None] = {}
    faults = []
    for word in words:
        try:
            _check_text(word)
            distinct[answer_tokens(tokenizer, prompts, word, bos)] = None
        except ValueError as fault:
            faults.append(str(fault))
    if faults:
        raise ValueError("; ".join(faults))
    return list(distinct)


def _check_text(text: str) -> None:
    """ValueError for half of a character that is written in two halves: no tokenizer reads it."""
    if halves := [letter for letter in text if "\ud800" <= letter <= "\udfff"]:
        raise ValueError(f"{shorten(repr(text))} holds half a character, {halves[0]!r}")


def _named(words: Sequence[Sequence[str]]) -> str:
    """Answers and counterfactuals, for a message."""
    sides = (", ".join(map(repr, every)) for every in words)
    return shorten(" against ".join(sides))


def read_rows(
    columns: Mapping[str, Any],
    read: Reader,
    where: Sequence[str] | None = None,
) -> list[Row]:
    """The rows of the columns clean, corrupted, answer and counterfactual.

    What `read` cannot make ids of is a fault of the row. Columns of different or no length raise
    `TaskError` at once.
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
    labels = [f"pair {i}" for i in range(n)] if where is None else where
    return [read(labels[i], {name: cells[name][i] for name in cells}) for i in range(n)]


def _read(read: Callable[[Any], T], name: str, cell: Any, faults: dict[str, str]) -> T | None:
    """What `read` makes of a cell; None, and a fault of that name, where it cannot."""
    try:
        return read(cell)
    except ValueError as fault:
        faults.setdefault(name, str(fault))
        return None


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


def pad_answers(rows: Sequence[Sequence[int]], least: int = 1) -> Int[np.ndarray, "n k"]:
    """The rows as one int64 array of at least `least` columns, filled with -1 on the right."""
    padded = np.full((len(rows), max(least, *map(len, rows))), NO_ID, dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded


def _text(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else ""


def _counted(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())
