"""Mitigating a letter bias: look, propose, choose on the training split, test on the other.

The search sees no right answers. It asks every training question in every cyclic order of its
options, so that each option stands at every letter once: a model without letter bias then answers
with every letter equally often, and chooses one option whatever its letter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.live import editing
from circuits.localise import Bias, localise_bias
from circuits.mcq_answers import Answers, agreement, answer, imbalance
from circuits.mcq_items import (
    Items,
    draw_questions,
    file_questions,
    in_all_orders,
    make_items,
    random_questions,
)
from circuits.other_tasks import Others, Sideways, look, other_prompts
from circuits.plan import EditPlan, plan_for
from circuits.recipes import Candidate, Evidence, candidates, gather, unibias
from patching.model import Model
from tasks.bias_measures import chosen_options
from tasks.errors import TaskError
from tasks.pairs import PromptPairs

if TYPE_CHECKING:
    import pandas as pd

LAYERS = 2
PERPLEXITY = 1.005
FALL = 0.005
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Settings:
    """How many questions to choose on and to test on, from where, and the seed of all draws."""

    train: int = 48
    test: int = 400
    seed: int = 0
    file: str = ""
    others: int = 200


@dataclass(frozen=True)
class Material:
    """All prompts of a mitigation: to choose on (in all orders), to test on, other tasks."""

    train: Items
    test: Items
    templates: dict[str, Items]
    train_others: Others
    test_others: Others


@dataclass(frozen=True)
class Tried:
    """A candidate and how it did on the training split; larger ``score`` is better.

    score      agreement between orders minus imbalance of the letters (no right answers in it)
    harmless   perplexity of text at most 0.5 % up, other tasks at most half a point down
    """

    candidate: Candidate
    score: float
    agreement: float
    imbalance: float
    harmless: bool


@dataclass(frozen=True)
class Search:
    """What was tried; ``nothing`` is the score of doing nothing."""

    nothing: float
    tried: tuple[Tried, ...]

    @property
    def best(self) -> Tried | None:
        """The best harmless candidate; None where none is better than doing nothing."""
        good = [t for t in self.tried if t.harmless and t.score > self.nothing]
        return max(good, key=lambda t: t.score, default=None)

    def best_of(self, recipe: str) -> Tried | None:
        """The best candidate of a recipe, a harmless one where there is one."""
        own = [t for t in self.tried if t.candidate.recipe == recipe]
        return max(own, key=lambda t: (t.harmless, t.score), default=None)

    @property
    def recipes(self) -> tuple[str, ...]:
        """Names of the recipes, in the order tried."""
        return tuple(dict.fromkeys(t.candidate.recipe for t in self.tried))

    def to_frame(self) -> pd.DataFrame:
        """One row per candidate, best score first."""
        import pandas as pd

        rows = [
            {name: getattr(t.candidate, name) for name in ("recipe", "layer", "size", "strength")}
            | {name: getattr(t, name) for name in ("score", "agreement", "imbalance", "harmless")}
            for t in sorted(self.tried, key=lambda t: -t.score)
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        best = "none better" if self.best is None else f"best {self.best.score:.3f}"
        return f"Search({len(self.tried)} candidates: {best}, doing nothing {self.nothing:.3f})"

    def _repr_html_(self) -> str:
        from circuits.display import frame_html

        best = [found for recipe in self.recipes if (found := self.best_of(recipe))]
        frame = Search(self.nothing, tuple(best)).to_frame()
        return frame_html(frame.set_index("recipe"), f"{self!r}; the best of each recipe")


def prepare(model: Model, settings: Settings) -> Material:
    """Draw all prompts.

    Raises:
        TaskError: letters that are not one token, or no question that fits the model.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise TaskError("questions are text, and this model has no tokenizer")
    longest = getattr(model.bridge.original_model.config, "max_position_embeddings", None)

    def drawn(n: int, split: str, n_options: int = 4) -> list[Any]:
        if settings.file:
            return file_questions(settings.file, settings.seed, split, n_options)[:n]
        return draw_questions(tokenizer, n, settings.seed, split, n_options)

    train = make_items(tokenizer, drawn(settings.train, "train"), longest=longest)
    test = make_items(tokenizer, drawn(settings.test, "test"), longest=longest)
    templates = {}
    few = max(settings.test // 4, 4)
    for name, make in {
        "one option per line": lambda: (drawn(few, "test"), "newline"),
        "three options": lambda: (drawn(few, "test", 3), "line"),
        "random words": lambda: (random_questions(tokenizer, few, settings.seed), "line"),
    }.items():
        try:
            templates[name] = make_items(tokenizer, *make(), longest=longest)
        except TaskError:
            continue
    others = [
        other_prompts(tokenizer, n, split, longest)
        for n, split in ((max(settings.others // 3, 8), "train"), (settings.others, "test"))
    ]
    return Material(in_all_orders(tokenizer, train), test, templates, *others)


def search(
    model: Model, material: Material, evidence: Evidence, layers: Sequence[int], progress: Progress
) -> Search:
    """Try all label-free candidates on the training split."""
    before = look(model, material.train_others)
    start = label_free(answer(model, material.train), material.train)
    proposals = [*candidates(model, evidence, layers)]
    proposals += unibias(model, material.train, evidence)
    tried = []
    for done, candidate in enumerate(proposals):
        progress(done, len(proposals), "trying edits")
        with editing(model, candidate.edits, evidence.basis):
            score, same, uneven = label_free(answer(model, material.train), material.train)
            # What is worse than nothing anyway need not be looked at any further.
            fine = score > start[0] and harmless(before, look(model, material.train_others))
        tried.append(Tried(candidate, score, same, uneven, fine))
    return Search(start[0], tuple(tried))


def label_free(answers: Answers, items: Items) -> tuple[float, float, float]:
    """Agreement minus imbalance, and both; ``items`` hold every question in all orders."""
    k = items.n_options
    same = agreement(chosen_options(answers.top.reshape(-1, k), k))
    uneven = imbalance(answers.top, k)
    return same - uneven, same, uneven


def harmless(before: Sideways, after: Sideways) -> bool:
    """Whether other tasks and plain text are left alone."""
    if len(before.loss) and after.perplexity > PERPLEXITY * before.perplexity:
        return False
    falls = (before.right[name].mean() - after.right[name].mean() for name in before.right)
    return all(fall <= FALL for fall in falls)


def where(model: Model, items: Items, n: int = 24) -> Bias:
    """Localise the bias on training questions in an order in which another letter is right."""
    k = items.n_options
    first = np.arange(0, len(items), k) + items.gold.reshape(-1, k).argmin(axis=1)
    rows = np.array([at - at % k + (at + 1 + i % (k - 1)) % k for i, at in enumerate(first)])
    alike = (items.mask[rows] == items.mask[first]).all(axis=1)
    # Words that the tokenizer does not know may leave two orders of the options the same.
    alike &= (items.tokens[rows] != items.tokens[first]).any(axis=1)
    rows, first = rows[alike][:n], first[alike][:n]
    pairs = PromptPairs.from_tokens(
        clean=items.tokens[rows],
        corrupted=items.tokens[first],
        answer=items.letters[items.gold[rows]][:, None],
        counterfactual=np.full((len(rows), 1), items.letters[0]),
        mask=items.mask[rows],
    )
    return localise_bias(model, pairs, items.names[0])


def chosen_layers(bias: Bias, n_layers: int) -> list[int]:
    """The layers whose MLP pushes most towards the letter in the run, and the last one."""
    direct = {part.name: part.direct for part in bias.parts}
    ranked = sorted(range(n_layers), key=lambda layer: -direct[f"m{layer}"])
    return sorted({*ranked[: LAYERS - 1], n_layers - 1})


@dataclass(frozen=True)
class Mitigation:
    """Everything that was found, before it is measured on the test split."""

    settings: Settings
    material: Material
    bias: Bias
    evidence: Evidence
    search: Search
    plan: EditPlan | None

    def to_frame(self) -> pd.DataFrame:
        """The candidates that were tried, best score first."""
        return self.search.to_frame()

    def __repr__(self) -> str:
        plan = "no plan" if self.plan is None else self.plan.note
        return f"Mitigation({plan}; {self.search!r})"

    def _repr_html_(self) -> str:
        return self.search._repr_html_() + self.bias._repr_html_()


def unseen(done: int, total: int, what: str) -> None:
    """Progress that nobody watches."""


def find_mitigation(model: Model, settings: Settings, progress: Progress = unseen) -> Mitigation:
    """Localise, search, and make a plan of the best edit; no plan where nothing helps."""
    progress(0, 0, "drawing questions")
    material = prepare(model, settings)
    progress(0, 0, "localising")
    bias = where(model, material.train)
    evidence = gather(model, material.train, answer(model, material.train), material.train_others)
    layers = chosen_layers(bias, model.anatomy.n_layers)
    found = search(model, material, evidence, layers, progress)
    best, plan = found.best, None
    if best is not None:
        plan = plan_for(model, best.candidate.edits, evidence.basis)
        note = f"{best.candidate.recipe}, strength {best.candidate.strength:g}"
        plan = plan.model_copy(update={"note": note})
    return Mitigation(settings, material, bias, evidence, found, plan)
