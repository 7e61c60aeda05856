"""How much work a mitigation is, step by step, and how long it takes, before it is begun.

The unit is one token through one block. Where something is not known yet it is assumed: what is in
no known layer is in the middle of the model, candidates that drop out cost what the others do, and
of every recipe two candidates are looked at on other tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter

import torch

from circuits.studies.bias.answers import start_at
from circuits.studies.bias.conditions import ELSEWHERE, NO_EDIT, RANDOM, RIVAL
from circuits.studies.bias.controls import DRAWS
from circuits.studies.bias.items import Items
from circuits.studies.bias.localise import TOP
from circuits.studies.bias.mitigate import HEADS, LAYERS, Material, prompts_to_localise
from circuits.studies.bias.other_tasks import OtherStarts
from circuits.studies.bias.race import Race
from circuits.studies.bias.recipes import COUNTS, STRENGTHS, STRONGER
from circuits.studies.bias.removal import EXACT
from circuits.studies.bias.report import tested
from circuits.studies.bias.settings import RECIPES, Settings
from circuits.studies.bias.start import Start
from circuits.studies.bias.unibias import BOTH, SETS, VECTORS
from circuits.studies.bias.unibias import HEADS as HEAD_SETS
from circuits.validation.forecast import LONG, in_words
from patching.model import Model

TIMED = 12
"""Questions that are run, in all orders, to see how fast the model is."""

LOOKS = 2
IN_MIDDLE = ("scale head", VECTORS, HEAD_SETS, BOTH)


@dataclass(frozen=True)
class Forecast:
    """What every step costs, in tokens times blocks, by its name on screen and in its order.

    ``test`` is how many questions edits are tested on.
    """

    steps: Mapping[str, float]
    unit_seconds: float
    test: int

    @property
    def seconds(self) -> float:
        """About how long all of it takes."""
        return self.unit_seconds * sum(self.steps.values())

    def lines(self, settings: Settings) -> list[str]:
        """What is said of it before it begins; where it is long, which smaller setting is not."""
        lines = [f"This takes {in_words(self.seconds)}."]
        if self.seconds <= LONG:
            return lines
        share = LONG / self.seconds
        given = {"train": settings.train, "test": self.test, "others": settings.others}
        fewer = " ".join(f"--{name} {max(4, int(n * share))}" for name, n in given.items())
        return [*lines, f"{fewer} takes {in_words(LONG)}."]


@dataclass(frozen=True)
class _Prompts:
    """Some prompts: tokens to be run, and how many tokens are unembedded."""

    tokens: float
    ends: float

    @classmethod
    def of(cls, start: Start) -> _Prompts:
        """Those of a start, each unembedded where it ends."""
        return cls(start.tokens, sum(len(chunk.rows) for chunk in start.chunks))

    def __add__(self, other: _Prompts) -> _Prompts:
        return _Prompts(self.tokens + other.tokens, self.ends + other.ends)


def forecast(model: Model, material: Material, settings: Settings) -> Forecast:
    """What a mitigation with this material costs; some questions are run for their time."""
    steps = _Steps(model, material, settings.recipes or RECIPES)
    chunk, times = start_at(model, material.train.asked(slice(TIMED)), 0).chunks[0], []
    for _ in range(2):
        begin = perf_counter()
        with torch.no_grad():
            chunk.logits(model, 0)
        times.append(perf_counter() - begin)
    cost = steps.cost(_Prompts.of(Start(0, (chunk,))))
    return Forecast(dict(steps.all()), min(times) / cost, len(material.test))


class _Steps:
    """The costs of all steps."""

    def __init__(self, model: Model, material: Material, recipes: tuple[str, ...]) -> None:
        self.model, self.material, self.recipes = model, material, recipes
        self.layers = model.anatomy.n_layers
        block = sum(matrix.numel() for matrix in model.blocks[0].matrices())
        self.unembedding = model.unembedding.numel() / block
        self.train = self.items(material.train)
        self.others, self.test_others = (
            self.all_of(OtherStarts.of(model, some))
            for some in (material.train_others, material.test_others)
        )

    def items(self, items: Items) -> _Prompts:
        """Questions."""
        return _Prompts.of(start_at(self.model, items, 0))

    def all_of(self, starts: OtherStarts) -> _Prompts:
        """Other tasks, and text, of which every token is unembedded."""
        tasks = sum(map(_Prompts.of, starts.pairs.values()), _Prompts(0, 0))
        return tasks + _Prompts(starts.text.tokens, starts.text.tokens)

    def cost(self, prompts: _Prompts, first: float = 0) -> float:
        """What it costs to run them from a block on."""
        # Of the last block little more is run than where prompts end.
        passed = max(self.layers - 1 - first, 0)
        return prompts.tokens * passed + prompts.ends * (1 + self.unembedding)

    def layer(self, recipe: str) -> float:
        """The first layer that a recipe's best is taken to change."""
        return self.layers / 2 if recipe in IN_MIDDLE else self.layers - 1

    def all(self) -> Iterator[tuple[str, float]]:
        """Every step, by its name on screen."""
        yield "localising", self.localising()
        yield "looking at the training questions", self.looking()
        yield "trying edits", self.trying()
        looks = [LOOKS * self.cost(self.others, self.layer(recipe)) for recipe in self.recipes]
        yield "looking at other tasks", sum(looks)
        prompts = sum(map(self.items, tested(self.model, self.material).values()), self.test_others)
        both = [BOTH] if {VECTORS, HEAD_SETS} <= {*self.recipes} else []
        conditions = [NO_EDIT, RIVAL, *self.recipes, *both, RANDOM, ELSEWHERE]
        each = [self.cost(prompts, self.layer(condition)) for condition in conditions]
        yield "measuring", sum(each) + self.cost(prompts)
        test, k = self.items(self.material.test), self.material.test.n_options
        # On every question with each letter, then twice on those that are answered 'A' wrongly.
        yield "the published edit", (k + 2) * self.cost(test, self.layers / 2)
        yield "random edits", DRAWS * self.cost(test, self.layers - 1)

    def localising(self) -> float:
        """Every part that is removed, from its layer on."""
        anatomy, n = self.model.anatomy, prompts_to_localise(self.model)
        each = (anatomy.n_heads, 1, min(TOP, anatomy.d_mlp))
        parts = sum(min(EXACT, self.layers * count) for count in each)
        prompts = _Prompts(n * int(self.material.train.mask.sum(1).max()), n)
        return parts * self.cost(prompts, self.layers / 2) + 4 * self.cost(prompts)

    def looking(self) -> float:
        """The questions twice, the other tasks and text once, and the neurons of UniBias."""
        neurons = self.model.anatomy.d_mlp * self.layers / 2 if VECTORS in self.recipes else 0
        return 2 * self.cost(self.train) + self.cost(self.others) + neurons * self.unembedding

    def trying(self) -> float:
        """All heats of the race."""
        heads = min(HEADS, self.layers * self.model.anatomy.n_heads)
        neurons = {"least squares": len(STRENGTHS) + len(STRONGER), "zero": len(COUNTS)}
        elsewhere = {"scale head": 2 * heads, VECTORS: SETS, HEAD_SETS: SETS}
        recipes, layers = [], []
        for recipe in self.recipes:
            if recipe in elsewhere:
                places = {self.layers / 2: elsewhere[recipe]}
            else:
                count = neurons.get(recipe, len(COUNTS) * len(STRENGTHS))
                places = {self.layers / 2: count * (LAYERS - 1), self.layers - 1: count}
            for layer, count in places.items():
                recipes += [recipe] * count
                layers += [layer] * count
        n = len(self.material.train) // self.material.train.n_options
        one = [self.cost(self.train, layer) / n for layer in layers]
        return Race.of(recipes, n).expected(one) + 3 * self.cost(self.train)
