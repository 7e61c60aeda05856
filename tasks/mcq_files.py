"""Multiple-choice questions from files: ARC and CommonsenseQA, MMLU, memory colours.

Every line of a file is checked; `TaskError` lists all faults with their line numbers.

ARC and CommonsenseQA   .jsonl: {"question": {"stem", "choices": [{"label", "text"}, ...]},
                        "answerKey"}; labels A to E or 1 to 5
MMLU                    .csv without a header: question, four options, answer letter
memory colours          .csv with the header "Index, Descriptor, Item, Plural, Color": three other
                        colours are drawn as wrong options
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tasks.errors import TaskError, all_faults
from tasks.files import read_text
from tasks.questions import LETTERS, Question

COLOR_COLUMNS = ["index", "descriptor", "item", "plural", "color"]
FOUR = 4
DIGITS = "12345"
FEWEST = 2


def read_questions(path: str | Path, seed: int = 0) -> list[Question]:
    """The questions of a file, in its order, whichever of the known kinds it is.

    `seed` draws the wrong options of memory colours and is not used otherwise.
    """
    path = Path(path)
    lines = list(enumerate(read_text(path, "utf-8-sig").split("\n"), start=1))
    kind = _reader(path, lines)
    found, faults = [], []
    for number, item in kind(lines, seed):
        if isinstance(item, Question):
            found.append(item)
        else:
            faults += [f"line {number}: {fault}" for fault in item]
    if faults:
        raise TaskError(all_faults(f"{path} cannot be used:", faults))
    if not found:
        raise TaskError(f"{path} holds no questions")
    return found


Read = Iterator[tuple[int, Question | list[str]]]
Lines = Sequence[tuple[int, str]]


def _reader(path: Path, lines: Lines) -> Callable[[Lines, int], Read]:
    if path.suffix in (".jsonl", ".json"):
        return _json_lines
    if path.suffix != ".csv":
        raise TaskError(
            f"{path}: questions are read from .jsonl (ARC, CommonsenseQA) or .csv (MMLU, memory "
            f"colours), not from '{path.suffix}'"
        )
    header = [cell.strip().lower() for cell in lines[0][1].split(",")] if lines else []
    return _colors if header == COLOR_COLUMNS else _mmlu


def _json_lines(lines: Lines, seed: int) -> Read:
    del seed
    for number, line in lines:
        if line.strip():
            yield number, _json_line(line)


def _json_line(line: str) -> Question | list[str]:
    try:
        record = json.loads(line)
    except ValueError as cause:
        return [f"not JSON: {cause}"]
    try:
        question, key = record["question"], record["answerKey"]
        stem, choices = question["stem"], question["choices"]
        labels = [str(choice["label"]) for choice in choices]
        texts = [str(choice["text"]) for choice in choices]
    except KeyError as cause:
        return [f"missing key {cause}"]
    except TypeError as cause:
        return [f"not an object with question, choices and answerKey: {cause}"]
    return _question(str(stem), texts, labels, str(key))


def _mmlu(lines: Lines, seed: int) -> Read:
    del seed
    rows = csv.reader(line for _, line in lines)
    for row in filter(None, rows):
        if len(row) != FOUR + 2:
            yield rows.line_num, [f"{len(row)} columns, not question, four options and a letter"]
            continue
        stem, *options, key = row
        yield rows.line_num, _question(stem, options, list(LETTERS[:FOUR]), key.strip())


def _colors(lines: Lines, seed: int) -> Read:
    rng = np.random.default_rng(seed)
    cells = [
        (number, [cell.strip() for cell in row])
        for (number, line), row in zip(lines, csv.reader(line for _, line in lines), strict=True)
        if number > 1 and line.strip()
    ]
    colors = sorted({row[-1] for _, row in cells if len(row) == len(COLOR_COLUMNS) and row[-1]})
    for number, row in cells:
        if len(row) != len(COLOR_COLUMNS) or not row[2] or not row[4]:
            yield number, [f"{len(row)} columns, not {', '.join(COLOR_COLUMNS)} with both filled"]
            continue
        yield number, _color(row, colors, rng)


def _color(row: list[str], colors: list[str], rng: np.random.Generator) -> Question | list[str]:
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


def _question(
    stem: str, texts: Sequence[str], labels: Sequence[str], key: str
) -> Question | list[str]:
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
