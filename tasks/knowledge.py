"""What is known, or was just said: relations, colours of objects, arguments of a function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tasks.base import Option
from tasks.questions import LETTERS, SYMBOLS
from tasks.registry import register
from tasks.standard import Axes, Prompt, Standard, other, words

OPTIONS = 4


@register
class Relations(Standard):
    """ "The capital of France is" -> " Paris", against another country's capital.

    The corruption names another country or word. Positions: subject, END.
    """

    name = "relations"
    claim = "recall what belongs to a word, such as a capital; the corruption names another word"
    reference = "Hernandez et al. 2023, arXiv 2308.09124; Merullo et al. 2023, arXiv 2305.16130"
    options: ClassVar[Mapping[str, Option]] = {
        "relation": Option(
            "capital", "what is asked for", ("capital", "language", "opposite", "past")
        ),
    }

    def axes(self, settings: Mapping[str, Any]) -> Axes:
        """How it is asked, and of what."""
        relation = words("relations")[settings["relation"]]
        return [relation["templates"], [tuple(pair) for pair in relation["pairs"]]]

    def ask(
        self, choice: Sequence[Any], rng: np.random.Generator, settings: Mapping[str, Any]
    ) -> Prompt:
        """See :class:`Standard`."""
        template, (subject, answer) = choice
        others = [pair for pair in self.axes(settings)[1] if pair[1] != answer]
        instead = other(rng, others)
        return Prompt(
            template.format(subject),
            template.format(instead[0]),
            [f" {answer}"],
            [f" {instead[1]}"],
            {"subject": template.index("{}") + len(subject)},
        )


@register
class ColoredObjects(Standard):
    """ "The ball is red. What color is the ball?" with four options -> the right one's symbol.

    The corruption replaces the symbols by others and leaves the options. Positions: object, color,
    symbol (the right option's), END.
    """

    name = "colored_objects"
    claim = "choose the option that was just said; the corruption replaces the options' symbols"
    reference = "MIB's MCQA, arXiv 2504.13151; Wiegreffe et al. 2024, arXiv 2407.15018"

    def axes(self, settings: Mapping[str, Any]) -> Axes:
        """Object, color, and the place of the right option."""
        return [words("objects"), words("colors"), range(OPTIONS)]

    def ask(
        self, choice: Sequence[Any], rng: np.random.Generator, settings: Mapping[str, Any]
    ) -> Prompt:
        """See :class:`Standard`."""
        thing, color, place = choice
        wrong = [each for each in words("colors") if each != color]
        listed = [wrong[i] for i in rng.permutation(len(wrong))[: OPTIONS - 1]]
        listed.insert(place, color)
        symbols = [SYMBOLS[i] for i in rng.permutation(len(SYMBOLS))[:OPTIONS]]
        said = f"The {thing} is {color}"
        head = f"{said}. What color is the {thing}?"
        clean = _with_options(head, LETTERS, listed)
        at = clean.index(f"\n{LETTERS[place]}. ") + 2
        return Prompt(
            clean,
            _with_options(head, symbols, listed),
            [f" {LETTERS[place]}"],
            [f" {symbols[place]}"],
            {"object": len(f"The {thing}"), "color": len(said), "symbol": at},
        )


def _with_options(head: str, symbols: Sequence[str], options: Sequence[str]) -> str:
    lines = [f"{symbol}. {text}" for symbol, text in zip(symbols, options, strict=False)]
    return "\n".join((head, *lines, "Answer:"))


@register
class Docstring(Standard):
    """A function's docstring names its arguments in order: the third after ":param".

    The corruption gives the third argument another name in the signature. Positions: argument (the
    third in the signature), END.
    """

    name = "docstring"
    claim = "name the next argument of a function; the corruption renames it in the signature"
    reference = "Heimersheim & Janiak 2023, 'A circuit for Python docstrings'"

    def axes(self, settings: Mapping[str, Any]) -> Axes:
        """Three arguments."""
        return [words("plain")] * 3

    def ask(
        self, choice: Sequence[Any], rng: np.random.Generator, settings: Mapping[str, Any]
    ) -> Prompt | None:
        """See :class:`Standard`."""
        if len(set(choice)) < len(choice):
            return None
        plain, described = words("plain"), words("described")
        unused = [word for word in plain if word not in choice]
        drawn = [unused[i] for i in rng.permutation(len(unused))[:6]]
        instead, name, *more, first, second = drawn
        a, b, _ = (described[i] for i in rng.permutation(len(described))[:3])
        head = f"def {name}(self, {choice[0]}, {choice[1]}, "
        tail = (
            f', {", ".join(more)}):\n    """a {a} {first}\n\n'
            f"    :param {choice[0]}: the {b} {first}\n"
            f"    :param {choice[1]}: the {second}\n"
            f"    :param"
        )
        return Prompt(
            f"{head}{choice[2]}{tail}",
            f"{head}{instead}{tail}",
            [f" {choice[2]}"],
            [f" {instead}"],
            {"argument": len(head) + len(choice[2])},
        )
