"""What the field's standard tasks share: drawing distinct prompts that a tokenizer can be asked.

A task of this kind names the axes that its prompts vary along; one choice on each makes a prompt,
its corrupted one and their answers. Those that a tokenizer cuts so that the two prompts differ in
length, or an answer is not the one token that would follow, are left out. A task may let answers be
several tokens where it could not be asked otherwise; see :mod:`tasks.answers`.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from math import prod
from typing import Any, ClassVar

import numpy as np

from tasks.answers import answer_tokens, measured
from tasks.base import Task
from tasks.errors import TaskError, counted
from tasks.follow import Follow
from tasks.pairs import PromptPairs
from tasks.tokenize import Tokenizer, encode, token_index, unknown_words

SMALL = 200_000
FEWEST_TRIES, TRIES_PER_PROMPT = 200, 20
NO_ANSWER = "have answers that are not one token"
NOT_APART = "have answers that no token distinguishes"
Axes = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt and its corrupted one, their answers as they follow, and characters of `clean` at
    which its named positions end."""

    clean: str
    corrupted: str
    answer: Sequence[str]
    counterfactual: Sequence[str]
    ends: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fitting:
    """Which prompts a tokenizer can be asked; with `several`, also where answers are not one token.

    Then the first token at which answer and counterfactual differ is measured.
    """

    follow: Follow
    several: bool = False

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""
        return self.follow.tokenizer

    def fitted(self, prompt: Prompt) -> Prompt | str:
        """The prompt with the answers that are one token here; or why it cannot be asked."""
        if unknown_words(self.tokenizer, f"{prompt.clean} {prompt.corrupted}"):
            return "have words that it does not know"
        ids = [encode(self.tokenizer, text) for text in (prompt.clean, prompt.corrupted)]
        if len(ids[0]) != len(ids[1]):
            return "differ in length from their corrupted ones"
        if ids[0] == ids[1]:
            return "are cut like their corrupted ones"
        both = prompt.clean, prompt.corrupted
        answer = self.follow.words(both, prompt.answer)
        counterfactual = self.follow.words(both, prompt.counterfactual)
        if not answer or not counterfactual:
            if not self.several:
                return NO_ANSWER
            if not self._told_apart(prompt):
                return NOT_APART
            answer, counterfactual = [*prompt.answer], [*prompt.counterfactual]
        try:
            self.positions(prompt)
        except TaskError:
            return "have named positions inside a token"
        return Prompt(prompt.clean, prompt.corrupted, answer, counterfactual, prompt.ends)

    def _told_apart(self, prompt: Prompt) -> bool:
        """Whether some token tells the answers from the counterfactuals."""
        both, sides = (prompt.clean, prompt.corrupted), (prompt.answer, prompt.counterfactual)
        try:
            right, wrong = (
                [answer_tokens(self.tokenizer, both, t) for t in side] for side in sides
            )
            first = measured(right, wrong)
        except ValueError:
            return False
        return not set(first.answer) & set(first.counterfactual)

    def positions(self, prompt: Prompt) -> dict[str, int]:
        """Index of the token at each named position."""
        ends = prompt.ends.items()
        return {name: token_index(self.tokenizer, prompt.clean, at) for name, at in ends}


class Standard(Task):
    """A task whose prompts are choices along axes. Subclasses give `axes` and `ask`.

    several  whether answers may be several tokens, where too few prompts have answers of one
    """

    several: ClassVar[bool] = False

    @abstractmethod
    def axes(self, settings: Mapping[str, Any]) -> Axes:
        """What a prompt varies in; the product of their lengths counts the prompts."""

    @abstractmethod
    def ask(
        self, choice: Sequence[Any], rng: np.random.Generator, settings: Mapping[str, Any]
    ) -> Prompt | None:
        """The prompt of one choice on each axis, what else it needs drawn; None if it is none."""

    def narrowed(self, prompt: Prompt) -> Prompt:
        """The prompt with those of its answers that go together; all, where nothing else is said.

        Answers of both sides are one token for the tokenizer that is asked, or may be several.
        """
        return prompt

    def make(
        self, tokenizer: Tokenizer, n: int, seed: int, settings: Mapping[str, Any]
    ) -> PromptPairs:
        """`n` distinct prompts that this tokenizer can be asked."""
        axes = self.axes(settings)
        total = prod(map(len, axes))
        if n > total:
            raise TaskError(
                f"task {self.name}: n={n}, but there are at most {total} distinct prompts; "
                f"ask for fewer"
            )
        fitting = Fitting(Follow(tokenizer))
        kept, refused = self._draw(fitting, n, seed, settings)
        if self.several and len(kept) < n:
            fitting = replace(fitting, several=True)
            kept, refused = self._draw(fitting, n, seed, settings)
        if len(kept) < n:
            raise TaskError(self._too_few(n, len(kept), refused))
        return self._pairs(fitting, kept)

    def _draw(
        self, fitting: Fitting, n: int, seed: int, settings: Mapping[str, Any]
    ) -> tuple[list[Prompt], Counter[str]]:
        """At most `n` distinct prompts, and how many others were refused for which reason."""
        axes, rng = self.axes(settings), np.random.default_rng(seed)
        refused = Counter[str]()
        kept: dict[str, Prompt] = {}
        for tried, choice in enumerate(_choices(axes, prod(map(len, axes)), rng)):
            if len(kept) == n or tried > FEWEST_TRIES + TRIES_PER_PROMPT * n:
                break
            prompt = self.ask(choice, rng, settings)
            if prompt is None or prompt.clean in kept:
                continue
            fitted = fitting.fitted(prompt)
            fitted = fitted if isinstance(fitted, str) else self.narrowed(fitted)
            if isinstance(fitted, str):
                refused[fitted] += 1
            elif not fitted.answer or not fitted.counterfactual:
                refused[NO_ANSWER] += 1
            else:
                kept[prompt.clean] = fitted
        return list(kept.values()), refused

    def _pairs(self, fitting: Fitting, prompts: Sequence[Prompt]) -> PromptPairs:
        at = [fitting.positions(each) for each in prompts]
        return PromptPairs.from_texts(
            fitting.tokenizer,
            clean=[each.clean for each in prompts],
            corrupted=[each.corrupted for each in prompts],
            answer=[list(each.answer) for each in prompts],
            counterfactual=[list(each.counterfactual) for each in prompts],
            positions={name: [row[name] for row in at] for name in at[0]} | {"END": [-1] * len(at)},
            task=self.name,
            metric=self.metric,
        )

    def _too_few(self, n: int, kept: int, refused: Mapping[str, int]) -> str:
        tried = kept + sum(refused.values())
        why = "; ".join(f"{counted(k, 'prompt')} {what}" for what, k in refused.items())
        advice = "ask for fewer" if kept else "try another option, or another task"
        return (
            f"task {self.name}: n={n}, but this tokenizer can be asked {kept} of {tried} distinct "
            f"prompts ({why or 'there are no more'}); {advice}"
        )


def _choices(axes: Axes, total: int, rng: np.random.Generator) -> Iterator[list[Any]]:
    """Choices in random order, each once; of very many, draws that differ."""
    sizes = [len(axis) for axis in axes]
    if total <= SMALL:
        for index in rng.permutation(total):
            at = np.unravel_index(index, sizes)
            yield [axis[int(i)] for axis, i in zip(axes, at, strict=True)]
        return
    seen: set[tuple[int, ...]] = set()
    while len(seen) < total:
        drawn = tuple(int(rng.integers(size)) for size in sizes)
        if drawn not in seen:
            seen.add(drawn)
            yield [axis[i] for axis, i in zip(axes, drawn, strict=True)]


def other(rng: np.random.Generator, words: Sequence[Any], *without: Any) -> Any:
    """One of the words that is none of those given."""
    left = [word for word in words if word not in without]
    return left[int(rng.integers(len(left)))]


@cache
def words(name: str) -> Any:
    """A list of the words that come with these tasks."""
    return _all_words()[name]


@cache
def _all_words() -> Mapping[str, Any]:
    text = (files("tasks") / "data" / "standard.json").read_text(encoding="utf-8")
    lists: Mapping[str, Any] = json.loads(text)
    return lists
