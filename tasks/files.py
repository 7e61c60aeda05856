"""Prompt pairs from a file, so any model and any question can be used.

With a tokenizer a row holds strings (answers as they follow the prompt, usually with a space):

    {"clean": "The capital of France is", "corrupted": "The capital of Italy is",
     "answer": " Paris", "counterfactual": " Rome"}

Without one, `clean`, `corrupted` and the answers are token ids. An answer may be a list; then any
of its entries counts. Rows come as JSON lines, as a JSON list (or one under "prompts"), as a table
with a header (commas, tabs or semicolons) or as Parquet; further keys are no part of the question,
but results can be grouped by them (tasks/columns.py), and `spans` says which tokens are one
place (tasks/spans.py). The files
of EAP-IG, auto-circuit and feature-circuits are known by their keys (tasks/pair_forms.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tasks.chat import is_messages
from tasks.columns import further
from tasks.errors import TaskError, all_faults, unknown
from tasks.pair_forms import KEYS, OURS, Form, form_of
from tasks.pairs import PromptPairs
from tasks.records import Record, Rows, decoded, read_bytes, read_rows_of
from tasks.row import shorten
from tasks.rows import Reader, read_ids, read_rows, text_readers
from tasks.spans import KEY as SPANS
from tasks.spans import with_spans
from tasks.tokenize import Tokenizer

PROMPTS = KEYS[:2]
QUESTIONS = ({"question", "choices"}, {"question", "answerKey"}, {"question", "answer", "A", "B"})
QUESTION_CELLS = 6
LETTERS = tuple("ABCDE")
_WANTED = f"give one JSON object per line, or a table with a header, with {', '.join(KEYS)}"
_ASK = "ask them with mcq_bias:file="
_OBJECT = re.compile(r'\s*\{\s*"\w+"\s*:')
_NO_JSON = re.compile(r"not JSON \(.*\): (.)")
_DETAIL = re.compile(r"'(?:[^'\\]|\\.)*'|\"[^\"]*\"|\[[^\]]*\]|\d[\d,.]*")


@dataclass(frozen=True, slots=True)
class PairsFile:
    """Prompt pairs with what became of their file.

    form      whose rows they are: circuits, auto-circuit, EAP-IG (greater-than), ...
    ignored   keys that are not used -> how many rows have them
    left_out  reason -> how many rows it kept out; empty unless bad rows were to be skipped
    """

    pairs: PromptPairs
    form: str
    ignored: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """Lines for a report: what was ignored, and what was left out and why."""
        lines = []
        if self.form != OURS.name:
            lines.append(f"rows of {self.form}")
        if self.ignored:
            lines.append(f"keys not used: {', '.join(self.ignored)}")
        return lines + left_out_lines(self.left_out)


def left_out_lines(left_out: Mapping[str, int]) -> list[str]:
    """How many rows were left out for which reason, the commonest first."""
    order = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    return [f"left out {count}: {reason}" for reason, count in order]


def reason(fault: str) -> str:
    """A fault without what differs from row to row, so that equal ones can be counted.

    >>> reason("clean has 4 tokens, corrupted 3; both need the same number: 'A is'")
    'clean has ... tokens, corrupted ...'
    """
    short = _DETAIL.sub("...", fault.partition(";")[0])
    column = re.match(r"(?:clean|corrupted|answer|counterfactual): ", short)
    start = column.end() if column else 0
    return short[: start + len(short[start:].partition(":")[0])].strip()


def read_pairs(
    path: str | Path,
    tokenizer: Tokenizer | None = None,
    n: int | None = None,
    seed: int = 0,
    *,
    metric: str | None = None,
    bos: bool | None = None,
    chat: bool | str = "",
    skip_bad: bool = False,
) -> PromptPairs:
    """The pairs of a file: all of them, or `n` drawn with `seed`, in the file's order.

    Every row is checked, drawn or not, and `TaskError` lists all faults with their line numbers;
    with `skip_bad` the rows that have any are left out. Blank lines are skipped. `metric` is by
    default the one of the file's authors. Texts need a `tokenizer`, token ids none.
    :func:`read_file` also says what was left out.

    >>> line = '{"clean": [7, 9], "corrupted": [8, 9], "answer": 1, "counterfactual": 2}'
    >>> with open("pairs.jsonl", "w") as file:
    ...     print(line, file=file)
    >>> circuits.load_pairs("pairs.jsonl")
    PromptPairs(pairs: 1 pair, 2 tokens, positions none)
    """
    how: dict[str, Any] = {"bos": bos, "chat": chat, "skip_bad": skip_bad}
    return read_file(path, tokenizer, n, seed, metric=metric, **how).pairs


def read_file(
    path: str | Path,
    tokenizer: Tokenizer | None = None,
    n: int | None = None,
    seed: int = 0,
    *,
    metric: str | None = None,
    bos: bool | None = None,
    chat: bool | str = "",
    skip_bad: bool = False,
) -> PairsFile:
    """The pairs of a file as :func:`read_pairs` gives them, with what was ignored."""
    path = Path(path)
    form, lines = _read_lines(path)
    as_text = _holds_text(path, form, lines, tokenizer)
    readers = text_readers(tokenizer, bos, chat) if as_text and tokenizer else read_ids
    lines = [_checked(line, form, tokenizer, readers) for line in lines]
    left_out = Counter(reason(line.faults[0]) for line in lines if line.faults)
    kept = [line for line in lines if not line.faults]
    if left_out and not (skip_bad and kept):
        raise TaskError(all_faults(f"{path} cannot be used:", _listed(lines)))
    columns: dict[str, Any] = {key: [line.values[key] for line in kept] for key in KEYS}
    columns |= {"task": path.stem, "metric": metric or form.metric}
    columns["where"] = [line.where for line in kept]
    if as_text and tokenizer:
        pairs = PromptPairs.from_texts(tokenizer, **columns, bos=bos, chat=chat)
    else:
        pairs = PromptPairs.from_tokens(**columns)
    extra = Counter(key for line in kept for key in line.extra if key != SPANS)
    pairs = replace(pairs, columns=further([line.said for line in kept]))
    spans = [line.said.get(SPANS) for line in kept]
    if any(each is not None for each in spans):
        pairs = with_spans(pairs, spans, columns["where"])
    return PairsFile(_drawn(path, pairs, n, seed), form.name, extra, left_out)


def check_lines(path: str | Path, skip_bad: bool = False) -> None:
    """Refuse a file of two kinds of rows, or none of whose rows is right, without any tokenizer.

    A file with some good rows is left to :func:`read_pairs`, which tells all its faults at once;
    rows of another kind are left to it with `skip_bad`.

    Raises:
        TaskError: there is no such file, it is no text or empty, or the faults of its rows.
    """
    _, lines = _read_lines(Path(path))
    mixed = any(line.other_kind for line in lines) and not skip_bad
    if mixed or all(line.faults for line in lines):
        raise TaskError(all_faults(f"{path} cannot be used:", _listed(lines)))


def read_text(path: Path) -> str:
    """What a text file holds.

    Raises:
        TaskError: there is no such file, it is too large, or it is no text.
    """
    return decoded(path, read_bytes(path))


@dataclass(frozen=True, slots=True)
class _Line:
    """A row under our keys or its own, what is wrong with it, and keys that have no use."""

    where: str
    values: Mapping[str, Any]
    faults: tuple[str, ...]
    extra: tuple[str, ...] = ()
    other_kind: bool = False
    said: Mapping[str, Any] = field(default_factory=dict)


def _listed(lines: Sequence[_Line]) -> list[str]:
    return [f"{line.where}: {fault}" for line in lines for fault in line.faults]


def _read_lines(path: Path) -> tuple[Form, list[_Line]]:
    """Whose rows the file holds, which its first usable one decides, and what their keys lack."""
    rows = read_rows_of(path)
    records = rows.headed()
    if not records and form_of(rows.header):
        raise TaskError(f"{path} holds a header and no rows")
    if any("messages" in record.values for record in records):
        raise TaskError(
            f"{path} holds chats under 'messages'; give one list of messages under each of "
            f"{' and '.join(PROMPTS)}, and what follows them under {' and '.join(KEYS[2:])}"
        )
    forms = (form_of(record.values) for record in records if not record.faults)
    form = next((form for form in forms if form), None)
    if form is None:
        _refuse_others(path, rows, records)
    elif twice := rows.twice():
        raise TaskError(f"{path}: the header names the column '{shorten(twice)}' twice")
    return form or OURS, [_line(record, form or OURS) for record in records]


def _line(record: Record, form: Form) -> _Line:
    faults, given = list(record.faults), record.values
    other = form_of(given) if not faults and not form.fits(given) else None
    if other:
        faults.append(
            f"a row of {other.name}, and the file began with rows of {form.name}; "
            f"give one kind per file"
        )
    elif not faults:
        faults += [f"missing key '{key}'" for key in form.keys if key not in given]
    strange = _written_otherwise(record)
    if strange:
        faults.append("a row written in another format than the first; give one format per file")
    wrong = dict(form.misspelt(given))
    faults += [unknown("key", key, form.keys) for key in wrong]
    extra = tuple(key for key in given if key and key not in form.keys and key not in wrong)
    said = {key: given[key] for key in extra}
    mixed = other is not None or strange
    return _Line(record.where, given, tuple(faults), extra, mixed, said)


def _written_otherwise(record: Record) -> bool:
    """Whether a line among lines of JSON is a table's, or one of a table is JSON."""
    first = next(iter(record.values.values()), None)
    if isinstance(first, str):
        return _OBJECT.match(first) is not None
    match = _NO_JSON.match(record.faults[0]) if record.faults else None
    return match is not None and match[1] != "{"


def _refuse_others(path: Path, rows: Rows, records: Sequence[Record]) -> None:
    """Say what a file looks like that holds no prompt pairs; nothing where its rows say it."""
    keys = set(next((record.values for record in records if record.values), ()))
    if any(kind <= keys for kind in QUESTIONS):
        raise TaskError(f"{path} holds multiple-choice questions, not prompt pairs; {_ASK}{path}")
    if keys >= {"cfg", "nodes", "edges"} or keys >= {"format", "schema_version"}:
        raise TaskError(f"{path} holds a circuit, not prompt pairs")
    if len(rows.header) == 1:
        raise TaskError(
            f"{path} looks like plain text that begins with {shorten(rows.header[0])!r}; {_WANTED}"
        )
    if len(rows.header) == QUESTION_CELLS and rows.header[-1].strip() in LETTERS:
        raise TaskError(f"{path} looks like MMLU's questions, not prompt pairs; {_ASK}{path}")
    if rows.header:
        names = ", ".join(repr(name.strip()) for name in rows.header[:10])
        missing = [key for key in KEYS if key not in {name.strip() for name in rows.header}]
        raise TaskError(
            f"{path} looks like a table whose first row is {shorten(names)}; its header lacks "
            f"{', '.join(missing)}; {_WANTED}"
        )


def _kind_of(values: Mapping[str, Any]) -> type[str] | type[int] | None:
    """str where the prompts are strings, int where they are lists of ids, None where neither."""
    for prompt in (values.get(key) for key in PROMPTS):
        if isinstance(prompt, str) or is_messages(prompt):
            return str
        if isinstance(prompt, list):
            return int
    return None


def _holds_text(
    path: Path, form: Form, lines: Sequence[_Line], tokenizer: Tokenizer | None
) -> bool:
    """Whether the rows hold text, which the first usable one of ours decides."""
    kinds = [kind for line in lines if (kind := _kind_of(line.values)) is not None]
    as_text = form is not OURS or not kinds or kinds[0] is str
    if as_text and (kinds or form is not OURS) and tokenizer is None:
        raise TaskError(
            f"{path} holds text, and this model has no tokenizer; "
            "give lists of token ids, or a model with a tokenizer"
        )
    return as_text


def _checked(line: _Line, form: Form, tokenizer: Tokenizer | None, reader: Reader) -> _Line:
    """The row under our keys, with everything that is wrong with its values."""
    if not form.fits(line.values):
        return line
    if form is OURS:
        values: Mapping[str, Any] = {key: line.values[key] for key in KEYS}
    else:
        assert tokenizer is not None
        try:
            values = form.convert(line.values, tokenizer)
        except ValueError as fault:
            return _Line(line.where, {}, (*line.faults, str(fault)))
    (row,) = read_rows({key: [value] for key, value in values.items()}, reader, [line.where])
    wrong = (fault.removeprefix(f"{line.where}: ") for fault in row.faults())
    faults = (*line.faults, *wrong)
    return _Line(line.where, values, faults, line.extra, line.other_kind, line.said)


def _drawn(path: Path, pairs: PromptPairs, n: int | None, seed: int) -> PromptPairs:
    if n is None or n == len(pairs):
        return pairs
    if not 1 <= n <= len(pairs):
        raise TaskError(f"n={n}, but {path} holds {len(pairs)} pairs; give 1 to {len(pairs)}")
    chosen = np.random.default_rng(seed).choice(len(pairs), size=n, replace=False)
    return pairs[np.sort(chosen)]
