"""Training text for mental math."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from circuits.nano.measure import top_tokens
from circuits.nano.sources import Source, Text
from circuits.results.intervals import Proportion
from tasks.problems import FORMS, STYLES, Problem
from tasks.tokenize import single_token

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

LARGEST = 99
PER_CELL = 200
MEASURE_SEED = 2025
TWO_OPERANDS = 0.5
STYLE_SHARES = {
    "bare": 0.4,
    "verbal": 0.15,
    "question": 0.13,
    "instruction": 0.12,
    "word_problem": 0.1,
    "python": 0.1,
}


class MathText(Source):
    """Problems of the task `mental_math` from its train split, each followed by its result."""

    name = "mental_math"
    about = (
        "sums and differences of two and three numbers from 0 to 99 in six styles, no running "
        "total below 0, half of them with two operands, 40 % of them bare; the operands (of a "
        "sum, in any order) "
        "belong to one split in every style, one in ten to the test split"
    )
    shares = (0, 50, 184, 262)
    weight = 1.0
    text_weight = 0.1
    text_part = 0.1

    def vocabulary(self) -> Iterable[str]:
        """One problem of every template, and every number from 0 to the largest result."""
        texts = (Problem(form, style, (1, 1, 1)[: len(form) + 1]) for form, style in _cells())
        return (*(problem.text() for problem in texts), *map(str, range(3 * LARGEST + 1)))

    def sample(self, rng: np.random.Generator, n: int) -> list[Text]:
        """Problems of the train split, in every style by its share."""
        counts = rng.multinomial(n, list(STYLE_SHARES.values()))
        problems = [
            problem
            for style, count in zip(STYLE_SHARES, counts.tolist(), strict=True)
            for problem in draw(rng, count, "train", styles=(style,))
        ]
        return [Text(problem.text(), problem.answer) for problem in problems]

    def measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
    ) -> Mapping[str, Proportion]:
        """Share of held-out problems whose top token is the result, by form and by style."""
        problems = self.held_out()
        best = top_tokens(model, tokenizer, [problem.text() for problem in problems])
        hits = [
            token == single_token(tokenizer, problem.answer)
            for token, problem in zip(best, problems, strict=True)
        ]
        pairs = list(zip(problems, hits, strict=True))
        groups = {
            "two operands": [hit for p, hit in pairs if len(p.form) == 1],
            "three operands": [hit for p, hit in pairs if len(p.form) == 2],
        }
        for form in FORMS:
            shown = "A" + "".join(map("{}{}".format, form, "BC"))
            groups[shown] = [hit for p, hit in pairs if p.form == form]
        for style in STYLES:
            groups[f"style {style}"] = [hit for p, hit in pairs if p.style == style]
        return {
            f"top-1 is the result, {name}": Proportion.of(group) for name, group in groups.items()
        }

    def held_out(self) -> list[Problem]:
        """Test problems, equally many of every form and style."""
        rng = np.random.default_rng(MEASURE_SEED)
        return [
            problem
            for form, style in _cells()
            for problem in draw(rng, PER_CELL, "test", forms=(form,), styles=(style,))
        ]


def draw(
    rng: np.random.Generator,
    n: int,
    split: str,
    forms: tuple[str, ...] = FORMS,
    styles: tuple[str, ...] = STYLES,
) -> list[Problem]:
    """`n` problems of the split; half of them have two operands where both kinds are asked for."""
    lengths = {len(form) for form in forms}
    problems: list[Problem] = []
    while len(problems) < n:
        two = rng.random() < TWO_OPERANDS if len(lengths) == 2 else lengths == {1}
        fitting = [form for form in forms if (len(form) == 1) == two]
        form = fitting[rng.integers(len(fitting))]
        operands = tuple(rng.integers(LARGEST + 1, size=len(form) + 1).tolist())
        problem = Problem(form, styles[rng.integers(len(styles))], operands)
        if min(problem.totals) >= 0 and problem.held_out() == (split == "test"):
            problems.append(problem)
    return problems


def _cells() -> list[tuple[str, str]]:
    return [(form, style) for form in FORMS for style in STYLES]
