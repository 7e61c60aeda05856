"""Which kind of prompt pairs a row is, told by its keys, and how its values become ours.

Besides our own there are those of EAP-IG's tables, whose answers are token ids of the tokenizer
that the table was written for or follow from the prompt, of auto-circuit, and of feature-circuits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from tasks.follow import Follow
from tasks.row import shorten
from tasks.rows import id_list
from tasks.tokenize import Tokenizer

KEYS = ("clean", "corrupted", "answer", "counterfactual")
PROMPTS = KEYS[:2]
NEAR = 0.8
YEARS = 100

Values = Mapping[str, Any]
Convert = Callable[[Values, Tokenizer], dict[str, Any]]
Known = Callable[[Values, str], bool]


@dataclass(frozen=True, slots=True)
class Form:
    """One kind of row.

    name     whose it is
    keys     those it must have
    convert  its values under our keys, answers as texts; ValueError says what is wrong with them
    metric   what its authors measure
    """

    name: str
    keys: tuple[str, ...]
    convert: Convert
    metric: str = "logit_diff"

    def fits(self, values: Iterable[str]) -> bool:
        """Whether a row with these keys is of this kind."""
        return set(self.keys) <= set(values)

    def misspelt(self, values: Iterable[str]) -> list[tuple[str, str]]:
        """Keys that are not in use but nearly spelt like one that is, with that one."""
        if self is not OURS:
            return []
        extra = [key for key in values if key not in self.keys]
        near = ((key, get_close_matches(key, self.keys, n=1, cutoff=NEAR)) for key in extra)
        return [(key, matches[0]) for key, matches in near if matches]


def _renamed(*keys: str) -> Convert:
    """The values under other names, in the order of our keys."""
    return lambda values, _: {mine: values[key] for mine, key in zip(KEYS, keys, strict=True)}


def _by_ids(answer: str, counterfactual: str, known: Known) -> Convert:
    """Prompts as they are, answers from ids, or lists of them, that `known` must recognise."""

    def convert(values: Values, tokenizer: Tokenizer) -> dict[str, Any]:
        columns = {key: values[key] for key in KEYS[:2]}
        for mine, key in zip(KEYS[2:], (answer, counterfactual), strict=True):
            columns[mine] = [_word(tokenizer, token) for token in _ids(key, values[key])]
            odd = [word for word in columns[mine] if not known(values, word)]
            if odd:
                raise ValueError(
                    f"{key} {shorten(str(values[key]))} is {odd[0]!r} in this tokenizer, which "
                    f"does not fit the prompt: these ids are of another tokenizer; give the model "
                    f"that the file was written for, or the answers as text"
                )
        return columns

    return convert


def _ids(key: str, cell: Any) -> list[int]:
    """Token ids from a number, a list, or either as a table's text."""
    try:
        given = json.loads(cell) if isinstance(cell, str) else cell
        ids = id_list(given)
    except (ValueError, RecursionError):
        raise ValueError(f"{key} is {shorten(repr(cell))}, not a token id") from None
    if not ids or min(ids) < 0:
        raise ValueError(f"{key} is {shorten(repr(cell))}, not a token id")
    return ids


def _word(tokenizer: Tokenizer, token: int) -> str:
    size = getattr(tokenizer, "__len__", lambda: token + 1)()
    try:
        return tokenizer.decode([token]) if token < size else f"no token ({token})"
    except LookupError:
        return f"no token ({token})"


def _in_prompt(values: Values, word: str) -> bool:
    text = f"{values['clean']} {values['corrupted']}"
    return bool(word.strip()) and bool(re.search(rf"\b{re.escape(word.strip())}\b", text))


def _is_pronoun(_: Values, word: str) -> bool:
    return word.strip().lower() in ("he", "she")


def _is_word(_: Values, word: str) -> bool:
    return word.strip().replace("-", "").isalpha()


def _later_years(values: Values, tokenizer: Tokenizer) -> dict[str, Any]:
    """Years above the given one against the given one and those below it."""
    year = _whole("correct_idx", values["correct_idx"], YEARS - 1)
    numbers = [f"{i:02d}" for i in range(YEARS)]
    return _sides(values, tokenizer, numbers[year + 1 :], numbers[: year + 1], "two-digit numbers")


def _agreeing_verbs(values: Values, tokenizer: Tokenizer) -> dict[str, Any]:
    """Verbs in the subject's number against the same verbs in the other number."""
    plural = _whole("plural", values["plural"], 1)
    agreeing, other = ([f" {pair[i]}" for pair in verbs()] for i in (plural, 1 - plural))
    return _sides(values, tokenizer, agreeing, other, "verbs")


def _sides(
    values: Values, tokenizer: Tokenizer, answer: list[str], other: list[str], what: str
) -> dict[str, Any]:
    """The prompts with those answers of either side that are one token after them."""
    columns = {key: values[key] for key in PROMPTS}
    if odd := [key for key, text in columns.items() if not isinstance(text, str)]:
        raise ValueError(f"{odd[0]}: {shorten(repr(columns[odd[0]]))} is not a string")
    follow, prompts = Follow(tokenizer), list(columns.values())
    sides = [follow.words(prompts, side) for side in (answer, other)]
    if not all(sides):
        raise ValueError(f"no {what} on one side are one token for this tokenizer")
    return columns | dict(zip(KEYS[2:], sides, strict=True))


def _whole(key: str, cell: Any, most: int) -> int:
    try:
        number = int(str(cell).strip().removesuffix(".0"))
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        raise ValueError(f"{key} is {shorten(repr(cell))}; give 0 to {most}")
    return number


@cache
def verbs() -> tuple[tuple[str, str], ...]:
    """Verbs in the present, singular and plural."""
    text = (files("tasks") / "data" / "verbs.json").read_text(encoding="utf-8")
    return tuple((singular, plural) for singular, plural in json.loads(text))


OURS = Form("circuits", KEYS, _renamed(*KEYS))
FORMS = (
    OURS,
    Form(
        "auto-circuit",
        ("clean", "corrupt", "answers", "wrong_answers"),
        _renamed("clean", "corrupt", "answers", "wrong_answers"),
    ),
    Form(
        "feature-circuits",
        ("clean_prefix", "patch_prefix", "clean_answer", "patch_answer"),
        _renamed("clean_prefix", "patch_prefix", "clean_answer", "patch_answer"),
    ),
    Form(
        "EAP-IG (ids of two answers)",
        (*PROMPTS, "correct_idx", "incorrect_idx"),
        _by_ids("correct_idx", "incorrect_idx", _in_prompt),
    ),
    Form(
        "EAP-IG (gender bias)",
        (*PROMPTS, "clean_answer_idx", "corrupted_answer_idx"),
        _by_ids("clean_answer_idx", "corrupted_answer_idx", _is_pronoun),
    ),
    Form(
        "EAP-IG (facts)",
        (*PROMPTS, "country_idx", "corrupted_country_idx"),
        _by_ids("country_idx", "corrupted_country_idx", _is_word),
    ),
    Form(
        "EAP-IG (hypernyms)",
        (*PROMPTS, "answers_idx", "corrupted_answers_idx"),
        _by_ids("answers_idx", "corrupted_answers_idx", _is_word),
        "prob_diff",
    ),
    Form("EAP-IG (greater-than)", (*PROMPTS, "correct_idx"), _later_years, "prob_diff"),
    Form("EAP-IG (subject-verb agreement)", (*PROMPTS, "plural"), _agreeing_verbs, "prob_diff"),
)


def form_of(values: Iterable[str]) -> Form | None:
    """The first kind whose keys are all there."""
    keys = set(values)
    return next((form for form in FORMS if form.fits(keys)), None)
