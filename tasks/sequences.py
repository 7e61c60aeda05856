"""What comes next: repeated words, years, days and numbers, sums, initials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from tasks.base import Option
from tasks.ioi import Words
from tasks.registry import register
from tasks.standard import Axes, Prompt, Standard, other, words

CENTURIES = range(12, 18)
YEARS = range(2, 99)
SPEAKERS = 12
DRAWS = 50


@register
class GreaterThan(Standard):
    """ "The siege lasted from the year 1741 to the year 17" -> years above 41, against the others.

    The corruption makes the year end in 01. Of a tokenizer that cuts every digit the next digit is
    asked: above the tens' digit, against those below it. Positions: century, year, END.
    """

    name = "greater_than"
    claim = "end no earlier than it began; the corruption lets it begin in the century's first year"
    reference = "Hanna et al. 2023, arXiv 2305.00586"
    metric = "prob_diff"

    def axes(self, settings: Mapping[str, Any]) -> Axes:
        """What lasted, century, year."""
        return [words("lasting"), CENTURIES, YEARS]

    def ask(
        self, choice: Sequence[Any], rng: np.random.Generator, settings: Mapping[str, Any]
    ) -> Prompt:
        """See :class:`Standard`; digits are offered beside two-digit years."""
        what, century, year = choice
        start, end = f"The {what} lasted from the year {century}", f" to the year {century}"
        tens = year // 10
        after = [f"{i:02d}" for i in range(year + 1, 100)] + [str(i) for i in range(tens + 1, 10)]
        before = [f"{i:02d}" for i in range(year + 1)] + [str(i) for i in range(tens)]
        clean = f"{start}{year:02d}"
        ends = {"century": len(start), "year": len(clean)}
        return Prompt(f"{clean}{end}", f"{start}01{end}", after, before, ends)

    def narrowed(self, prompt: Prompt) -> Prompt:
        """Two-digit years where any is one token, else digits: never both."""
        sides = prompt.answer, prompt.counterfactual
        longest = max(len(text) for side in sides for text in side)
        answer, counterfactual = ([t for t in side if len(t) == longest] for side in sides)
        return replace(prompt, answer=answer, counterfactual=counterfactual)


@register
class Induction(Standard):
    """ "cup date line size cup date" -> " line": words that came before come again.

    The corruption puts another word where the answer stands the first time. Positions: source (the
    answer's first place), before (the word ahead of it there), END.
    """

    name = "induction"
    claim = "go on as it went on before; the corruption changes what came then"
    reference = "Olsson et al. 2022, arXiv 2209.11895"

    def axes(self, settings: Mapping[str, Any]) -> Axes:
        """Six words."""
        return [words("plain")] * 6

    def ask(
        self, choice: Sequence[Any], rng: np.random.Generator, settings: Mapping[str, Any]
    ) -> Prompt | None:
        """See :class:`Standard`."""
        if len(set(choice)) < len(choice):
            return None
        answer, instead = choice[3], other(rng, words("plain"), *choice)
        before, again = " ".join(choice[:3]), " ".join((*choice[4:], *choice[:3]))
        source = f"{before} {answer}"
        return Prompt(
            f"{source} {again}",
            f"{before} {instead} {again}",
            [f" {answer}"],
            [f" {instead}"],
            {"before": len(before), "source": len(source)},
        )


@register
class Successor(Standard):
    """ "Mary said that the day after Monday is" -> " Tuesday".

    The corruption names another day, month or number. Positions: given, END.
    """

    name = "successor"
    claim = "say what comes after a day, a month or a number; the corruption names another one"
    reference = "Gould et al. 2023, arXiv 2312.09230"
    options: ClassVar[Mapping[str, Option]] = {
        "kind": Option("days", "what is counted: numbers are words", ("days", "months", "numbers")),
    }

    def axes(self, settings: Mapping[str, Any]) -> Axes:
        """Who says it, how, and of what."""
        kind = settings["kind"]
        listed = words(kind)
        noun = kind[:-1]
        ways = [f"the {noun} after {{}} is", f"the {noun} that follows {{}} is", "after {} comes"]
        # Days and months begin again; the last number has none after it.
        last = len(listed) - (kind == "numbers")
        steps = [(listed[i], listed[(i + 1) % len(listed)]) for i in range(last)]
        return [Words.read().names[:SPEAKERS], ways, steps]

    def ask(
        self, choice: Sequence[Any], rng: np.random.Generator, settings: Mapping[str, Any]
    ) -> Prompt:
        """See :class:`Standard`."""
        speaker, way, step = choice
        instead = other(rng, self.axes(settings)[2], step)
        start = f"{speaker} said that {way}"
        given = start.index("{}") + len(step[0])
        return Prompt(
            start.format(step[0]),
            start.format(instead[0]),
            [f" {step[1]}"],
            [f" {instead[1]}"],
            {"given": given},
        )


@register
class Arithmetic(Standard):
    """ "The sum of 13 and 25 is" -> " 38", against the result of another such question.

    Results are one token; of tokenizers that cut numbers, the first token at which the two results
    differ is measured. `mental_math` has more forms and corruptions. Positions: A, B, END.
    """

    name = "arithmetic"
    claim = "add or subtract two numbers; the corruption asks about two others"
    several = True
    reference = "Stolfo et al. 2023, arXiv 2305.15054; pairs as in MIB, arXiv 2504.13151"
    options: ClassVar[Mapping[str, Option]] = {
        "operator": Option("+", "the operator", ("+", "-")),
        "style": Option("words", "The sum of A and B is, or A+B=", ("words", "equation")),
        "largest": Option(99, "largest number, 2 to 999"),
    }

    def axes(self, settings: Mapping[str, Any]) -> Axes:
        """Two numbers."""
        return [range(min(max(settings["largest"], 2), 999) + 1)] * 2

    def ask(
        self, choice: Sequence[Any], rng: np.random.Generator, settings: Mapping[str, Any]
    ) -> Prompt | None:
        """See :class:`Standard`."""
        sign = settings["operator"]
        result = _result(sign, *choice)
        size = len(self.axes(settings)[0])
        for _ in range(DRAWS):
            # Numbers of as many digits, so that tokenizers which cut digits can be asked too.
            drawn = [_alike(rng, number, size) for number in choice]
            instead = _result(sign, *drawn)
            if instead != result >= 0 and len(str(instead)) == len(str(result)):
                break
        else:
            return None
        clean, ends = _equation(settings, *choice)
        gap = " " * (settings["style"] == "words")
        corrupted = _equation(settings, *drawn)[0]
        return Prompt(clean, corrupted, [f"{gap}{result}"], [f"{gap}{instead}"], ends)

    def narrowed(self, prompt: Prompt) -> Prompt:
        """No result below zero: of several tokens the sign would be measured, not the number."""
        sides = prompt.answer, prompt.counterfactual
        answer, counterfactual = ([text for text in side if "-" not in text] for side in sides)
        return replace(prompt, answer=answer, counterfactual=counterfactual)


def _result(sign: str, a: int, b: int) -> int:
    return a + b if sign == "+" else a - b


def _alike(rng: np.random.Generator, number: int, size: int) -> int:
    """A number below `size` of as many digits."""
    digits = len(str(number))
    low, high = (0 if digits == 1 else 10 ** (digits - 1)), min(10**digits, size)
    return int(rng.integers(low, high))


def _equation(settings: Mapping[str, Any], a: int, b: int) -> tuple[str, dict[str, int]]:
    """The question, and where its numbers end."""
    plus = settings["operator"] == "+"
    if settings["style"] == "equation":
        first, second = f"{a}", f"{a}{settings['operator']}{b}"
        return f"{second}=", {"A": len(first), "B": len(second)}
    first = f"The {'sum of' if plus else 'difference between'} {a}"
    second = f"{first} and {b}"
    return f"{second} is", {"A": len(first), "B": len(second)}


@register
class Acronyms(Standard):
    """ "The Music Club Zone (MC" -> "Z": the last initial.

    The corruption replaces the last word by one with another initial. Positions: word_1, word_2,
    word_3, END.
    """

    name = "acronyms"
    claim = "finish an acronym with the last word's initial; the corruption changes that word"
    reference = "Garcia-Carrasco et al. 2024, arXiv 2405.04156"

    def axes(self, settings: Mapping[str, Any]) -> Axes:
        """Three words."""
        return [words("initials")] * 3

    def ask(
        self, choice: Sequence[Any], rng: np.random.Generator, settings: Mapping[str, Any]
    ) -> Prompt | None:
        """See :class:`Standard`."""
        if len(set(choice)) < len(choice):
            return None
        last = choice[2]
        instead = other(rng, [word for word in words("initials") if word[0] != last[0]])
        starts = [f"The {' '.join(choice[:i])}" for i in (1, 2, 3)]
        end = f" ({choice[0][0]}{choice[1][0]}"
        return Prompt(
            f"{starts[2]}{end}",
            f"{starts[1]} {instead}{end}",
            [last[0]],
            [instead[0]],
            {f"word_{i}": len(start) for i, start in enumerate(starts, start=1)},
        )
