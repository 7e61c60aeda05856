"""Multiple-choice questions from files: ARC and CommonsenseQA, MMLU, memory colours.

Every row of a file is checked; `TaskError` lists all faults with their line numbers. Rows may be
JSON lines, a JSON list, a table or Parquet, and are known by their keys:

ARC, CommonsenseQA   {"question": {"stem", "choices": [{"label", "text"}, ...]}, "answerKey"}, or
                     as on the hub {"question", "choices": {"text": [...], "label": [...]},
                     "answerKey"}; labels A to E or 1 to 5
MMLU                 a table of question, four options, answer letter, with or without the header
                     question, A, B, C, D, answer; or as on the hub {"question", "choices": [...],
                     "answer"}; the answer is a letter or a number from 0
memory colours       a table with the header "Index, Descriptor, Item, Plural, Color": three other
                     colours are drawn as wrong options
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import TaskError, all_faults
from tasks.files import reason
from tasks.json_text import half_surrogate
from tasks.pair_forms import form_of
from tasks.questions import LETTERS, Question
from tasks.records import Record, Rows, read_rows_of
from tasks.row import shorten

COLOR_COLUMNS = ["index", "descriptor", "item", "plural", "color"]
FOUR = 4
DIGITS = "12345"
FEWEST = 2
MMLU_CELLS = ("question", *LETTERS[:FOUR], "answer")

Read = Question | list[str]


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """The questions of a file in its order; `left_out` counts rows that were skipped by reason."""

    questions: list[Question]
    left_out: Mapping[str, int] = field(default_factory=dict)


def read_questions(path: str | Path, seed: int = 0, *, skip_bad: bool = False) -> list[Question]:
    """The questions of a file, in its order, whichever of the known kinds it is.

    `seed` draws the wrong options of memory colours and is not used otherwise. With `skip_bad`
    rows with a fault are left out; :func:`read_question_file` also says which.
    """
    return read_question_file(path, seed, skip_bad=skip_bad).questions


def read_question_file(path: str | Path, seed: int = 0, *, skip_bad: bool = False) -> QuestionFile:
    """The questions of a file as :func:`read_questions` gives them, with what was left out."""
    path = Path(path)
    questions: list[Question] = []
    faults, left_out = [], Counter[str]()
    for where, item in _read(path, read_rows_of(path), seed):
        if isinstance(item, Question):
            questions.append(item)
        else:
            left_out[reason(item[0])] += 1
            faults += [f"{where}: {fault}" for fault in item]
    if faults and not (skip_bad and questions):
        raise TaskError(all_faults(f"{path} cannot be used:", faults))
    if not questions:
        raise TaskError(f"{path} holds no questions")
    return QuestionFile(questions, left_out)


def _read(path: Path, rows: Rows, seed: int) -> Iterator[tuple[str, Read]]:
    """Where each row stands, and its question or what is wrong with it."""
    records, form = rows.headed(), _form
    if rows.header:
        names = [name.strip().lower() for name in rows.header]
        if "question" in names and (twice := rows.twice()):
            raise TaskError(f"{path}: the header names the column '{shorten(twice)}' twice")
        if names == COLOR_COLUMNS:
            yield from _colors(records, seed)
            return
        if form_of(name.strip() for name in rows.header):
            raise TaskError(f"{path} holds prompt pairs, not questions; give it as the task itself")
        if "question" not in names or "answer" not in names:
            if len(names) != len(MMLU_CELLS):
                raise TaskError(_unknown(path, [name.strip() for name in rows.header]))
            records = rows.bare(MMLU_CELLS)
    if any(form_of(record.values) for record in records):
        raise TaskError(f"{path} holds prompt pairs, not questions; give it as the task itself")
    for record in records:
        yield record.where, list(record.faults) or form(record.values)


def _unknown(path: Path, names: Sequence[str]) -> str:
    begins = shorten(", ".join(map(repr, names)))
    what = "plain text" if len(names) == 1 else f"a table of {len(names)} columns"
    return (
        f"{path} looks like {what} that begins with {begins}; questions are "
        f"tables of question, A, B, C, D, answer, or one JSON object per line with question, "
        f"choices and answerKey or answer"
    )


def _form(values: Mapping[str, Any]) -> Read:
    """The question of a row of any kind but memory colours."""
    if "question" not in values:
        return ["missing key 'question'"]
    if half := half_surrogate(dict(values)):
        return [f"half a character, {half}, which is no text"]
    question = values["question"]
    choices = question.get("choices") if isinstance(question, dict) else values.get("choices")
    if not isinstance(question, dict) and "choices" not in values:
        choices = [values[letter] for letter in LETTERS if letter in values] or None
    key = next((values[name] for name in ("answerKey", "answer") if name in values), None)
    stem = question.get("stem") if isinstance(question, dict) else question
    lacking = {"choices": choices, "stem": stem, "answerKey": key}
    if missing := [name for name, value in lacking.items() if value is None]:
        return [f"missing key '{name}'" for name in missing]
    try:
        labels, texts = _labelled(choices)
    except (TypeError, KeyError, ValueError):
        return [f"choices are {shorten(repr(choices))}; give texts, or objects of label and text"]
    return _question(str(stem), texts, labels, _letter(key, labels))


def _labelled(choices: Any) -> tuple[list[str], list[str]]:
    """Labels and texts of options, which come in three ways; other errors mean none of these."""
    if isinstance(choices, dict):
        labels, texts = choices["label"], choices["text"]
        if len(labels) != len(texts) or not all(isinstance(x, list) for x in (labels, texts)):
            raise ValueError
    elif choices and isinstance(choices[0], dict):
        labels = [choice["label"] for choice in choices]
        texts = [choice["text"] for choice in choices]
    elif isinstance(choices, list):
        labels, texts = list(LETTERS[: len(choices)]), choices
    else:
        raise TypeError
    if any(isinstance(text, list | dict | None) for text in texts):
        raise TypeError
    return [str(label) for label in labels], [str(text) for text in texts]


def _letter(key: Any, labels: Sequence[str]) -> str:
    """The answer's label, also where a number from 0 is given and the labels are letters."""
    text = str(key).strip()
    if text not in labels and text.isdecimal() and len(text) == 1 and int(text) < len(labels):
        return labels[int(text)]
    return text


def _colors(records: Sequence[Record], seed: int) -> Iterator[tuple[str, Read]]:
    rng = np.random.default_rng(seed)
    cells = [
        (row.where, [str(cell).strip() for cell in row.values.values()] or list(row.faults))
        for row in records
    ]
    colors = sorted({row[-1] for _, row in cells if len(row) == len(COLOR_COLUMNS) and row[-1]})
    for where, row in cells:
        if len(row) != len(COLOR_COLUMNS):
            yield where, row
        elif not row[2] or not row[4]:
            yield where, ["item or color is empty"]
        else:
            yield where, _color(row, colors, rng)


def _color(row: list[str], colors: list[str], rng: np.random.Generator) -> Read:
    _, descriptor, item, plural, color = row
    others = [other for other in colors if other != color]
    if len(others) < FOUR - 1:
        return [f"only {len(others)} other colours in the file, {FOUR - 1} are needed"]
    options = [others[i] for i in rng.choice(len(others), FOUR - 1, replace=False)]
    gold = int(rng.integers(FOUR))
    options.insert(gold, color)
    verb = "are" if plural else "is"
    stem = f"What color {verb} {descriptor} {item}?".replace("  ", " ")
    return Question(stem, tuple(options), gold)


def _question(stem: str, texts: Sequence[str], labels: Sequence[str], key: str) -> Read:
    """The question, or everything that is wrong with it."""
    texts = [text.strip() for text in texts]
    faults = []
    if not stem.strip():
        faults.append("the question is empty")
    if not FEWEST <= len(texts) <= len(LETTERS):
        faults.append(f"{len(texts)} options; give {FEWEST} to {len(LETTERS)}")
    if not all(texts):
        faults.append("an empty option")
    double = sorted({text for text in texts if text and texts.count(text) > 1})
    if double:
        faults.append(f"the same option twice: {', '.join(double)}")
    if "".join(labels) not in (LETTERS[: len(labels)], DIGITS[: len(labels)]):
        faults.append(f"labels {', '.join(labels)}; give A, B, ... or 1, 2, ... in order")
    if key not in labels:
        faults.append(f"answer '{key}' is none of the options {', '.join(labels)}")
    return faults or Question(stem.strip(), tuple(texts), labels.index(key))
