"""Mitigating a letter bias: look, propose, choose on the training split, test on the other.

The search sees no right answers; only where it looks, at which layers and heads, comes from
localising the bias, which compares with the right letter. It asks every training question in every
cyclic order of its options, so that each option stands at every letter once: a model without letter
bias then answers with every letter equally often, and chooses one option whatever its letter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.edits.plan import EditPlan, plan_for
from circuits.studies.bias.answers import answer
from circuits.studies.bias.items import (
    Items,
    commonest_options,
    draw_questions,
    file_questions,
    in_all_orders,
    make_items,
    not_asked,
    random_questions,
    unknown_share,
)
from circuits.studies.bias.localise import TOP, Bias, localise_bias
from circuits.studies.bias.other_tasks import Others, Stops, other_prompts
from circuits.studies.bias.recipes import Evidence, candidates, gather
from circuits.studies.bias.search import Bench, search
from circuits.studies.bias.settings import FEWEST, RECIPES, Settings
from circuits.studies.bias.trials import Search
from circuits.studies.bias.unibias import unibias
from patching.model import Model
from patching.progress import Progress
from patching.sites import Site, parse_site
from tasks.chat import check_form
from tasks.errors import TaskError
from tasks.pairs import PromptPairs
from tasks.tokenize import with_start

if TYPE_CHECKING:
    import pandas as pd

LAYERS = 2
HEADS = 16
"""How many heads are tried: those whose removal takes most from the letter's lead."""

RUNS = 6000
LEAST, MOST = 8, 24
"""Prompts that the bias is localised on: about as many ablated runs as RUNS, in these bounds."""

OPTIONS = 4
RANDOM_WORDS = "random words"
NUMBERS = ("no", "one", "two", "three", "four")


@dataclass(frozen=True)
class Material:
    """All prompts of a mitigation: to choose on (in all orders), to test on, other tasks.

    too_long   how many questions to test on were left out because the model cannot take them
    unknown    share of the words of those to test on that the tokenizer does not know
    left_out   how many rows of a file are not asked, a line for every reason
    """

    train: Items
    test: Items
    templates: dict[str, Items]
    train_others: Others
    test_others: Others
    too_long: int
    unknown: float
    left_out: tuple[str, ...] = ()


def prepare(model: Model, settings: Settings) -> Material:
    """Draw all prompts.

    Raises:
        TaskError: letters that are not one token, or no question that fits the model.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise TaskError("questions are text, and this model has no tokenizer")
    check_form(tokenizer, settings.chat)
    put: dict[str, Any] = {"longest": model.longest, "bos": settings.bos, "chat": settings.chat}
    k = commonest_options(settings.file, settings.skip_bad) if settings.file else OPTIONS

    def drawn(n: int, split: str, n_options: int = k) -> list[Any]:
        if settings.file:
            questions = file_questions(
                settings.file, settings.seed, split, n_options, settings.skip_bad
            )
            return questions[:n]
        return draw_questions(tokenizer, n, settings.seed, split, n_options)

    train = make_items(tokenizer, drawn(settings.train, "train"), **put)
    n_test = settings.questions_to_test(model)
    test_questions = drawn(n_test, "test")
    test = make_items(tokenizer, test_questions, **put)
    templates = {}
    few = max(n_test // 4, FEWEST)
    for name, make in {
        "one option per line": lambda: (drawn(few, "test"), "newline"),
        f"{NUMBERS[k - 1]} options": lambda: (drawn(few, "test", k - 1), "line"),
        RANDOM_WORDS: lambda: (random_questions(tokenizer, few, settings.seed, k), "line"),
    }.items():
        try:
            templates[name] = make_items(tokenizer, *make(), **put)
        except TaskError:
            continue
    plain = with_start(tokenizer, settings.bos)
    return Material(
        train=in_all_orders(tokenizer, train),
        test=test,
        templates=templates,
        train_others=other_prompts(plain, max(2 * settings.others // 3, 8), "train", model.longest),
        test_others=other_prompts(plain, settings.others, "test", model.longest),
        too_long=len(test_questions) - len(test),
        unknown=unknown_share(tokenizer, test.questions),
        left_out=not_asked(settings.file, k, settings.skip_bad) if settings.file else (),
    )


def where(
    model: Model, items: Items, n: int | None = None, progress: Progress | None = None
) -> Bias:
    """Localise the bias on training questions in an order in which another letter is right.

    On ``n`` questions; by default on 24, on fewer in a model of many parts, but at least 8.
    """
    n = n or prompts_to_localise(model)
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

    def localising(done: int, total: int, _what: str) -> None:
        if progress is not None:
            progress(done, total, "localising")

    return localise_bias(model, pairs, items.names[0], progress=localising)


def prompts_to_localise(model: Model) -> int:
    """How many prompts keep the time of removing every part in bounds."""
    parts = model.anatomy.n_layers * (model.anatomy.n_heads + 1 + TOP)
    return max(LEAST, min(MOST, RUNS // parts))


def chosen_layers(bias: Bias, n_layers: int) -> list[int]:
    """The layers whose MLP pushes most towards the letter in the run, and the last one."""
    direct = {part.name: part.direct for part in bias.parts}
    ranked = sorted(range(n_layers), key=lambda layer: -direct[f"m{layer}"])
    return sorted({*ranked[: LAYERS - 1], n_layers - 1})


def chosen_heads(bias: Bias) -> list[Site]:
    """The heads whose removal takes most from the letter's lead, layer by layer."""
    sites = [parse_site(part.name) for part in bias.parts]
    ranked = [site for site in sites if site.kind == "head"][:HEADS]
    return sorted(ranked, key=lambda site: (site.layer, site.unit))


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


def find_mitigation(
    model: Model,
    settings: Settings,
    progress: Progress = unseen,
    material: Material | None = None,
) -> Mitigation:
    """Localise, search, and make a plan of the best edit; no plan where nothing helps.

    ``material`` is that of the settings where it is drawn already.
    """
    if material is None:
        progress(0, 0, "drawing questions")
        material = prepare(model, settings)
    bias = where(model, material.train, progress=progress)
    layers = chosen_layers(bias, model.anatomy.n_layers)
    progress(0, 0, "looking at the training questions")
    recipes, answers = settings.recipes or RECIPES, answer(model, material.train)
    solved = layers if "least squares" in recipes else []
    stops = Stops.of(model, material.train_others)
    evidence = gather(model, material.train, answers, stops, solved)
    proposals = [
        *candidates(model, evidence, layers, chosen_heads(bias), recipes),
        *unibias(model, material.train, evidence, recipes),
    ]
    others = material.train_others
    bench = Bench.of(model, material.train, others, evidence.basis, answers, stops)
    searched = search(bench, proposals, progress)
    best, plan = searched.best, None
    if best is not None:
        plan = plan_for(model, best.candidate.edits, evidence.basis)
        plan = plan.model_copy(update={"note": best.candidate.note})
    return Mitigation(settings, material, bias, evidence, searched, plan)
