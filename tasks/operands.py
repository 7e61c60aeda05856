"""Which numbers a problem is made of: operands that a tokenizer can be asked about, and results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from tasks.answers import Ids, answer_tokens, size_of
from tasks.chat import Asked
from tasks.errors import TaskError
from tasks.problems import SLOTS, Problem
from tasks.tokenize import Tokenizer

Sizes = tuple[int, ...]
"""How many tokens a number is: after a space, and where a prompt starts with it."""


@dataclass(frozen=True, slots=True)
class Range:
    """Operands to choose from, and the results allowed; running totals are at least `least`.

    `sizes` says how many tokens an operand is, `alike` lists those of one size: only these can
    stand in for one another.
    """

    sizes: Mapping[int, Sizes]
    least: int
    most: int

    @property
    def numbers(self) -> tuple[int, ...]:
        """All operands."""
        return tuple(self.sizes)

    def alike(self, number: int) -> tuple[int, ...]:
        """The operands of as many tokens as this one, which is among them."""
        size = self.sizes[number]
        return tuple(other for other, its in self.sizes.items() if its == size)

    def allows(self, form: str, operands: Int[np.ndarray, "n k"]) -> Bool[np.ndarray, " n"]:
        """Which rows keep every running total at or above `least` and the result below `most`."""
        signs = np.array([1, *(1 if sign == "+" else -1 for sign in form)])
        totals = (operands * signs).cumsum(axis=1)[:, 1:]
        allowed: Bool[np.ndarray, " n"] = (totals >= self.least).all(axis=1)
        return allowed & (totals[:, -1] <= self.most)


class Results:
    """Results as they follow their prompts, and whether a model's first tokens distinguish them.

    What stands right before a result does not depend on the operands, so its tokens are looked up
    once; the pairs are checked as a whole when they are made.
    """

    def __init__(self, asked: Asked, one_token: bool) -> None:
        self._asked = asked
        self._one_token = one_token
        self._tokens: dict[str, Ids] = {}

    def answer(self, problem: Problem) -> str:
        """The result as text that continues the prompt."""
        if self._asked.form:
            return self._asked.answer(str(problem.result), problem.text())
        return problem.answer

    def differ(self, problem: Problem, other: Problem) -> bool:
        """Whether there is a token at which the two results differ, and the tokenizer knows it."""
        right, wrong = self._ids(problem), self._ids(other)
        if not right or not wrong or (self._one_token and len(right) + len(wrong) > 2):
            return False
        return any(a != b for a, b in zip(right, wrong, strict=False))

    def _ids(self, problem: Problem) -> Ids:
        """The tokens of the result; none where it cannot be read."""
        answer = self.answer(problem)
        if answer not in self._tokens:
            try:
                text = self._asked.text(problem.text())
                self._tokens[answer] = answer_tokens(self._asked.tokenizer, [text], answer)
            except ValueError:
                self._tokens[answer] = ()
        return self._tokens[answer]


def operands(tokenizer: Tokenizer, settings: Mapping[str, Any]) -> Range:
    """The operands that can be used in this form and style; `TaskError` with counts if < 2."""
    numbers = range(settings["smallest"], settings["largest"] + 1)
    if settings["smallest"] < 0 or len(numbers) < 2:
        raise TaskError(
            f"task mental_math: operands from {settings['smallest']} to {settings['largest']}; "
            "give at least two numbers, none below 0"
        )
    probe = Problem(settings["form"], settings["style"], (1,) * (len(settings["form"]) + 1))
    text = "".join("#" if slot in tuple(SLOTS) else part for slot, part in probe.parts())
    gaps = {text[i - 1 : i] == " " for i, sign in enumerate(text) if sign == "#" and i}
    written = [" " * gap for gap in sorted(gaps)] + [""] * (text[0] == "#")
    sizes = {
        number: tuple(size_of(tokenizer, f"{gap}{number}") for gap in written) for number in numbers
    }
    most = 1 if settings["tokens"] == "one" else max(max(size) for size in sizes.values())
    kept = {number: size for number, size in sizes.items() if all(1 <= k <= most for k in size)}
    if len(kept) < 2:
        wanted = "one token for" if settings["tokens"] == "one" else "in the vocabulary of"
        raise TaskError(
            f"task mental_math: {len(kept)} of {len(numbers)} numbers from {numbers[0]} to "
            f"{numbers[-1]} are {wanted} this tokenizer; at least 2 are needed"
        )
    return Range(kept, settings["least"], settings["most"])
