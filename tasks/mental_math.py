"""Mental math: sums and differences of two or three numbers, answered at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int

from tasks.base import Option, Task
from tasks.chat import Asked, ChatForm, begun, form_of
from tasks.errors import TaskError
from tasks.operands import Range, Results, operands
from tasks.pairs import PromptPairs
from tasks.problems import FORMS, SLOTS, STYLES, Problem
from tasks.registry import register
from tasks.tokenize import Tokenizer, encode

SPLITS = ("test", "train", "all")
FLIPPABLE = ("bare", "verbal", "question", "python")
FLIP = {"+": "-", "-": "+"}
ENUMERABLE = 2_000_000
DRAWS = 200
PER_DRAW = 1000


@register
class MentalMath(Task):
    """ "42+20-15=" -> "47", in six styles.

    Numbers may be several tokens, as in models that cut every digit: corrupted operands have as
    many tokens as the clean ones, and the first token at which the two results differ is measured.

    Positions: the last token of the operands A, B (C), the operators op (op2), END. The default
    split is the one that the embedded model was not trained on; to other models the splits are
    the same.
    """

    name = "mental_math"
    chat = ChatForm(before="Answer with a number only.\n\n")
    claim = "add and subtract in one step; the corruption changes operands or the operator"
    reference = (
        "Mamidanna et al. 2025, arXiv 2509.09650 (forms, styles, ranges); pairs as in MIB, "
        "arXiv 2504.13151"
    )
    options: ClassVar[Mapping[str, Option]] = {
        "form": Option("+", "the operators, from left to right: +- is A+B-C", FORMS),
        "style": Option("bare", "how the problem is put into words", STYLES),
        "corruption": Option(
            "operands",
            "operands: all of them change; A, B, C: that operand alone changes; "
            "op: the first operator is turned into the other one",
            ("operands", "A", "B", "op"),
        ),
        "tokens": Option(
            "any",
            "any: numbers of any length; one: operands and results of one token each",
            ("any", "one"),
        ),
        "smallest": Option(0, "smallest operand"),
        "largest": Option(99, "largest operand"),
        "least": Option(0, "smallest running total, the result included"),
        "most": Option(299, "largest result"),
        "split": Option("test", "operands: held out from nano, or not", SPLITS),
    }

    def make(
        self, tokenizer: Tokenizer, n: int, seed: int, settings: Mapping[str, Any]
    ) -> PromptPairs:
        """`n` distinct problems of the split, each with its corrupted prompt."""
        corruption = settings["corruption"]
        if corruption == "op" and settings["style"] not in FLIPPABLE:
            raise TaskError(
                f"task {self.name}: in style {settings['style']} the operator does not change "
                f"alone; for corruption op choose a style from {', '.join(FLIPPABLE)}"
            )
        bounds = operands(tokenizer, settings)
        asked = self.asked(tokenizer, settings)
        results = Results(asked, settings["tokens"] == "one")
        rng = np.random.default_rng(seed)
        pairs: list[tuple[Problem, Problem]] = []
        for problem in _problems(rng, bounds, settings):
            if len(pairs) == n:
                break
            other = _corrupt(problem, corruption, bounds, rng)
            if other is not None and results.differ(problem, other):
                pairs.append((problem, other))
        if len(pairs) < n:
            raise TaskError(_too_few(n, len(pairs), bounds, settings))
        return PromptPairs.from_texts(
            tokenizer,
            clean=[asked.text(clean.text()) for clean, _ in pairs],
            corrupted=[asked.text(other.text()) for _, other in pairs],
            answer=[results.answer(clean) for clean, _ in pairs],
            counterfactual=[results.answer(other) for _, other in pairs],
            positions=_positions(asked, [clean for clean, _ in pairs]),
            task=self.name,
            metric=self.metric,
        )

    def conditional(
        self,
        tokenizer: Tokenizer,
        n: int,
        seed: int = 0,
        fixed: Mapping[str, int] | None = None,
        *,
        bos: bool | None = None,
        chat: bool | str = "",
        **options: Any,
    ) -> Int[np.ndarray, "n pos"]:
        """Token ids of `n` prompts with the `fixed` operands; the others are independent of them.

        `fixed={"B": 20}` is the sampler that context-aware mean ablation needs at B: template and B
        stay, the other operands are drawn from the whole range whatever the result would be.
        A sampler that keeps results in range leaks B into them (arXiv 2509.09650 does not say).
        Draws may repeat. `bos` and `chat` are those of :meth:`pairs`.
        """
        form = form_of(chat)
        settings: Mapping[str, Any] = self.settings(**options) | {"tokens": "one", "chat": form}
        tokenizer = begun(tokenizer, bos, form)
        asked, bounds = self.asked(tokenizer, settings), operands(tokenizer, settings)
        slots = SLOTS[: len(settings["form"]) + 1]
        fixed = dict(fixed or {})
        faults = [slot for slot, value in fixed.items() if slot not in slots] + [
            f"{slot}={value}" for slot, value in fixed.items() if value not in bounds.numbers
        ]
        if faults or n < 1:
            raise TaskError(
                f"task {self.name}: n={n}, fixed {', '.join(faults) or 'fine'}; give n >= 1 and "
                f"operands among {', '.join(slots)} that are one token in the range chosen"
            )
        rng = np.random.default_rng(seed)
        drawn = rng.choice(np.array(bounds.numbers), size=(n, len(slots)))
        for slot, value in fixed.items():
            drawn[:, slots.index(slot)] = value
        problems = (
            Problem(settings["form"], settings["style"], tuple(row)) for row in drawn.tolist()
        )
        return np.array([encode(tokenizer, asked.text(problem.text())) for problem in problems])


def _problems(
    rng: np.random.Generator, bounds: Range, settings: Mapping[str, Any]
) -> Iterator[Problem]:
    """Distinct problems of the split in random order."""
    form, split = settings["form"], settings["split"]
    for row in _operands(rng, bounds, form):
        problem = Problem(form, settings["style"], tuple(row))
        if split == "all" or problem.held_out() == (split == "test"):
            yield problem


def _operands(rng: np.random.Generator, bounds: Range, form: str) -> Iterator[list[int]]:
    """Distinct rows of operands in range: drawn first, then whatever the draws have missed."""
    numbers, k = np.array(bounds.numbers), len(form) + 1
    seen: set[tuple[int, ...]] = set()
    for _ in range(DRAWS):
        drawn = rng.choice(numbers, size=(PER_DRAW, k))
        for row in drawn[bounds.allows(form, drawn)].tolist():
            if tuple(row) not in seen:
                seen.add(tuple(row))
                yield row
    if len(numbers) ** k <= ENUMERABLE:
        every = np.stack(np.meshgrid(*[numbers] * k, indexing="ij"), axis=-1).reshape(-1, k)
        every = every[bounds.allows(form, every)]
        rows = (every[i].tolist() for i in rng.permutation(len(every)))
        yield from (row for row in rows if tuple(row) not in seen)


def _corrupt(
    problem: Problem, corruption: str, bounds: Range, rng: np.random.Generator
) -> Problem | None:
    """The corrupted problem, its result in range and another one; None where none is found."""
    candidates = (
        [_flipped(problem)]
        if corruption == "op"
        else (_redrawn(problem, corruption, bounds, rng) for _ in range(DRAWS))
    )
    for other in candidates:
        if other is None:
            return None
        fits = bounds.allows(other.form, np.array([other.operands]))[0]
        if fits and other.result != problem.result:
            return other
    return None


def _flipped(problem: Problem) -> Problem:
    return replace(problem, form=FLIP[problem.form[0]] + problem.form[1:])


def _redrawn(
    problem: Problem, corruption: str, bounds: Range, rng: np.random.Generator
) -> Problem | None:
    """The problem with other operands of as many tokens: with `operands` each one differs.

    None where an operand has none to be replaced by.
    """
    changed = SLOTS if corruption == "operands" else corruption
    operands = list(problem.operands)
    for i, slot in enumerate(SLOTS[: len(operands)]):
        others = bounds.alike(operands[i]) if slot in changed else ()
        if len(others) == 1:
            return None
        while others and operands[i] == problem.operands[i]:
            operands[i] = others[rng.integers(len(others))]
    return replace(problem, operands=tuple(operands))


def _positions(asked: Asked, problems: Sequence[Problem]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {slot: [] for slot in problems[0].ends()}
    for problem in problems:
        for slot, index in asked.indices(problem.text(), problem.ends()).items():
            positions[slot].append(index)
    return positions | {"END": [-1] * len(problems)}


def _too_few(n: int, distinct: int, bounds: Range, settings: Mapping[str, Any]) -> str:
    form, numbers = settings["form"], bounds.numbers
    alone = ", each of them one token (tokens=one)" if settings["tokens"] == "one" else ""
    return (
        f"task mental_math: n={n}, but there are {distinct} distinct prompts of form "
        f"A{''.join(map('{}{}'.format, form, SLOTS[1:]))} in split '{settings['split']}' with "
        f"{len(numbers)} operands from {numbers[0]} to {numbers[-1]}, running totals of at least "
        f"{bounds.least} and results up to {bounds.most}{alone}; ask for fewer, or widen the range"
    )
