"""Prompt pairs from a file: JSON lines, one pair each, so any model and any question can be used.

With a tokenizer a line holds strings (answers as they follow the prompt, usually with a space):

    {"clean": "The capital of France is", "corrupted": "The capital of Italy is",
     "answer": " Paris", "counterfactual": " Rome"}

Without one, `clean`, `corrupted` and the answers are token ids. An answer may be a list; then any
of its entries counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import TaskError, all_faults, unknown
from tasks.pairs import PromptPairs
from tasks.row import shorten
from tasks.rows import ID_READERS, Reader, read_rows, text_readers
from tasks.tokenize import Tokenizer

KEYS = ("clean", "corrupted", "answer", "counterfactual")
PROMPTS = KEYS[:2]


@dataclass(frozen=True, slots=True)
class Line:
    """A numbered line of a file: its JSON object, empty where it is not one, and its faults."""

    number: int
    record: dict[str, Any]
    faults: tuple[str, ...]


def read_pairs(
    path: str | Path,
    tokenizer: Tokenizer | None = None,
    n: int | None = None,
    seed: int = 0,
    *,
    metric: str = "logit_diff",
    bos: bool | None = None,
    chat: bool | str = "",
) -> PromptPairs:
    """The pairs of a JSON-lines file: all of them, or `n` drawn with `seed`, in the file's order.

    Every line is checked, drawn or not, and `TaskError` lists all faults with their line numbers.
    Blank lines are skipped.

    >>> line = '{"clean": [7, 9], "corrupted": [8, 9], "answer": 1, "counterfactual": 2}'
    >>> with open("pairs.jsonl", "w") as file:
    ...     print(line, file=file)
    >>> circuits.load_pairs("pairs.jsonl")
    PromptPairs(pairs: 1 pair, 2 tokens, positions none)
    """
    path = Path(path)
    lines = _read_lines(path)
    as_text = _holds_text(path, lines, tokenizer)
    readers = text_readers(tokenizer, bos, chat) if as_text and tokenizer else ID_READERS
    faults = [fault for line in lines for fault in _faults(line, readers)]
    if faults:
        raise TaskError(all_faults(f"{path} cannot be used:", faults))
    columns: dict[str, Any] = {key: [line.record[key] for line in lines] for key in KEYS}
    columns |= {"task": path.stem, "metric": metric}
    if as_text and tokenizer:
        pairs = PromptPairs.from_texts(tokenizer, **columns, bos=bos, chat=chat)
    else:
        pairs = PromptPairs.from_tokens(**columns)
    return _drawn(path, pairs, n, seed)


def check_lines(path: str | Path) -> None:
    """Refuse a file none of whose lines is an object with the right keys, without any tokenizer.

    A file with some good lines is left to :func:`read_pairs`, which tells all its faults at once.

    Raises:
        TaskError: there is no such file, it is no text or empty, or the faults of its lines.
    """
    lines = _read_lines(Path(path))
    if all(line.faults for line in lines):
        faults = [f"line {line.number}: {fault}" for line in lines for fault in line.faults]
        raise TaskError(all_faults(f"{path} cannot be used:", faults))


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """What a text file holds.

    Raises:
        TaskError: there is no such file, or it is no text.
    """
    try:
        return path.read_text(encoding=encoding)
    except FileNotFoundError:
        raise TaskError(f"there is no file '{path}'") from None
    except OSError as cause:
        raise TaskError(f"{path} cannot be read: {cause.strerror}") from None
    except UnicodeDecodeError as cause:
        raise TaskError(f"{path} is not a text file: byte {cause.start} is not UTF-8") from None


def _read_lines(path: Path) -> list[Line]:
    lines = [_read_line(number, text) for number, text in _numbered(path)]
    if not lines:
        raise TaskError(f"{path} is empty; give one JSON object per line with {', '.join(KEYS)}")
    return lines


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line


def _read_line(number: int, text: str) -> Line:
    try:
        record = json.loads(text)
    except ValueError as cause:
        return Line(number, {}, (f"not JSON ({cause}): {shorten(text.strip())}",))
    if not isinstance(record, dict):
        return Line(number, {}, (f"not a JSON object: {shorten(text.strip())}",))
    missing = [f"missing key '{key}'" for key in KEYS if key not in record]
    extra = [unknown("key", key, KEYS) for key in record if key not in KEYS]
    return Line(number, record, (*missing, *extra))


def _form(record: dict[str, Any]) -> type[str] | type[int] | None:
    """str where the prompts are strings, int where they are lists of ids, None where neither."""
    for prompt in (record.get(key) for key in PROMPTS):
        if isinstance(prompt, str):
            return str
        if isinstance(prompt, list):
            return int
    return None


def _holds_text(path: Path, lines: list[Line], tokenizer: Tokenizer | None) -> bool:
    """Whether the file is of the text form, which its first usable line decides."""
    forms = [form for line in lines if (form := _form(line.record)) is not None]
    as_text = not forms or forms[0] is str
    if as_text and forms and tokenizer is None:
        raise TaskError(
            f"{path} holds text, and this model has no tokenizer; "
            "give lists of token ids, or a model with a tokenizer"
        )
    return as_text


def _faults(line: Line, readers: Reader) -> list[str]:
    """Everything wrong with the line: its JSON and keys, then what its values hold."""
    faults = [f"line {line.number}: {fault}" for fault in line.faults]
    if all(key in line.record for key in KEYS):
        columns = {key: [line.record[key]] for key in KEYS}
        (row,) = read_rows(columns, readers, [f"line {line.number}"])
        faults += row.faults()
    return faults


def _drawn(path: Path, pairs: PromptPairs, n: int | None, seed: int) -> PromptPairs:
    if n is None or n == len(pairs):
        return pairs
    if not 1 <= n <= len(pairs):
        raise TaskError(f"n={n}, but {path} holds {len(pairs)} pairs; give 1 to {len(pairs)}")
    chosen = np.random.default_rng(seed).choice(len(pairs), size=n, replace=False)
    return pairs[np.sort(chosen)]
