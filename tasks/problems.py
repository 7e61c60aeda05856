"""Arithmetic problems as text: operands, the operators between them, and a style of asking.

A style's templates are in `data/mental_math.json`: `{A}`, `{B}`, `{C}` are the operands, and the
word in square brackets is the operator, so that its position is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

FORMS = ("+", "-", "++", "+-", "-+", "--")
STYLES = ("bare", "verbal", "question", "instruction", "word_problem", "python")
SLOTS = "ABC"
HELD_OUT_OF = 10
PART = re.compile(r"\{([ABC])\}|\[([^]]+)\]")


@dataclass(frozen=True, slots=True)
class Problem:
    """`operands` joined from left to right by the operators of `form`, asked in `style`.

    `form` is one sign fewer than there are operands: "+-" with operands 42, 20, 15 is 42 + 20 - 15.
    """

    form: str
    style: str
    operands: tuple[int, ...]

    @property
    def totals(self) -> tuple[int, ...]:
        """The running totals, the first operand left out; the last one is the result."""
        total, totals = self.operands[0], []
        for sign, operand in zip(self.form, self.operands[1:], strict=True):
            total += operand if sign == "+" else -operand
            totals.append(total)
        return tuple(totals)

    @property
    def result(self) -> int:
        """What the problem evaluates to; it may be negative."""
        return self.totals[-1]

    @property
    def answer(self) -> str:
        """The result as it continues the prompt: after "=" without a space, else with one."""
        return str(self.result) if self.style == "bare" else f" {self.result}"

    def text(self) -> str:
        """The prompt, ending where the answer follows."""
        return "".join(text for _, text in self.parts())

    def ends(self) -> dict[str, int]:
        """Character in `text()` at which each operand (A, B, C) and operator (op, op2) ends."""
        ends, at = {}, 0
        for slot, text in self.parts():
            at += len(text)
            if slot:
                ends[slot] = at
        return ends

    def parts(self) -> list[tuple[str, str]]:
        """(slot, text) pairs that make up the prompt; the slot is "" between the named parts."""
        template, parts, at, operators = _templates()[self.style][self.form], [], 0, 0
        for match in PART.finditer(template):
            parts.append(("", template[at : match.start()]))
            operand, operator = match.groups()
            if operand:
                parts.append((operand, str(self.operands[SLOTS.index(operand)])))
            else:
                operators += 1
                parts.append(("op" if operators == 1 else f"op{operators}", operator))
            at = match.end()
        return [*parts, ("", template[at:])]

    def held_out(self) -> bool:
        """Whether the operands belong to the test split, a tenth of all, in every style.

        The operands of a sum count in any order, so 12+34 is never in another split than 34+12.
        """
        operands = self.operands
        if "-" not in self.form:
            operands = tuple(sorted(operands))
        key = f"{self.form}|{'|'.join(map(str, operands))}"
        return int.from_bytes(sha256(key.encode()).digest()[:4], "big") % HELD_OUT_OF == 0


@cache
def _templates() -> Mapping[str, Mapping[str, str]]:
    text = (files("tasks") / "data" / "mental_math.json").read_text(encoding="utf-8")
    templates: Mapping[str, Mapping[str, str]] = json.loads(text)
    return templates
