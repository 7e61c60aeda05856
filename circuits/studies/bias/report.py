"""The report card of a mitigation: before and after, rivals, controls, side effects, intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from circuits.models import name_of
from circuits.studies.bias.answers import Answers, Value, answer, bootstrap, measures, start_at
from circuits.studies.bias.conditions import NO_EDIT, RIVAL, Condition, all_conditions
from circuits.studies.bias.controls import random_moves
from circuits.studies.bias.criteria import criteria
from circuits.studies.bias.folder import KIND
from circuits.studies.bias.items import Items, in_all_orders
from circuits.studies.bias.mitigate import Material, Mitigation, unseen
from circuits.studies.bias.other_tasks import Others, OtherStarts, Sideways, look
from circuits.studies.bias.paper_edit import paper_edit, published_vector
from circuits.studies.bias.report_card import ReportCard
from circuits.studies.bias.settings import RECIPES
from circuits.studies.bias.start import Start
from patching.model import Model
from patching.progress import Count, Progress
from patching.sites import parse_site
from tasks import bias_measures as bias

ORDERED = 100
TEST, TURNED = "test", "test in other orders"
Predictions = np.ndarray


@dataclass(frozen=True)
class Seen:
    """What came of one way on the test split."""

    top: Predictions
    best: Predictions
    ordered: np.ndarray
    templates: Mapping[str, Predictions]
    others: Sideways


def report_card(model: Model, found: Mitigation, progress: Progress = unseen) -> ReportCard:
    """Measure everything on the test split; plain values for ``report.json``."""
    test = found.material.test
    conditions = all_conditions(model, found)
    best, published = found.search.best, parse_site(published_vector(found.bias).name).layer
    changed = published if best is None else best.candidate.first_layer
    seen, starts = _see_all(_Tests.of(model, found), conditions, (published, changed), progress)
    plain, start = seen[NO_EDIT], starts[published]
    paper = paper_edit(model, test, found.bias, plain.top, start=start, progress=progress)
    random = [] if best is None else _random_moves(model, found, starts[changed], progress)
    card = {
        "kind": KIND,
        "schema_version": "1.0",
        "model": {"name": name_of(model.path), "hash": model.hash, "path": str(model.path)},
        "settings": asdict(found.settings),
        "questions": _questions(found.material, len(plain.ordered)),
        "chosen": None if best is None else best.candidate.recipe,
        "plan": None if found.plan is None else found.plan.note,
        "knows": _knows(plain, seen[RIVAL], test),
        "about": [condition.about() for condition in conditions],
        "conditions": {name: _row(one, plain, test) for name, one in seen.items()},
        "templates": {
            name: {
                condition: _template(one.templates[name], items) for condition, one in seen.items()
            }
            for name, items in found.material.templates.items()
        },
        "others": {name: _others(one.others, plain.others) for name, one in seen.items()},
        "others_missing": dict(found.material.test_others.missing),
        "random": random,
        "paper": paper.to_json(),
        "localised": found.bias.to_json(),
        "search": {
            "nothing": found.search.nothing,
            "tried": len(found.search.tried),
            "heats": list(found.search.heats),
            "proposed_nothing": _absent(found),
        },
    }
    return ReportCard(card | {"criteria": criteria(card)})


def _absent(found: Mitigation) -> list[str]:
    """The recipes that were asked for and had nothing to propose."""
    asked = found.settings.recipes or RECIPES
    return [recipe for recipe in asked if recipe not in found.search.recipes]


def _questions(material: Material, ordered: int) -> dict[str, Any]:
    return {
        "train": len(material.train) // material.train.n_options,
        "test": len(material.test),
        "in_all_orders": ordered,
        "options": material.test.n_options,
        "too_long": material.too_long,
        "unknown_words": material.unknown,
    }


def _random_moves(model: Model, found: Mitigation, start: Start, progress: Progress) -> list[float]:
    items, seed, best = found.material.test, found.settings.seed, found.search.best
    assert best is not None
    edits, basis = best.candidate.edits, found.evidence.basis
    return random_moves(model, edits, basis, items, seed, progress, start)


def tested(model: Model, material: Material) -> dict[str, Items]:
    """The questions that every condition is measured on, some of them in their other orders too."""
    test, k = material.test, material.test.n_options
    turned = in_all_orders(model.tokenizer, test[:ORDERED])
    others = replace(turned[np.arange(len(turned)) % k > 0], orders=k - 1)
    return {TEST: test, TURNED: others} | dict(material.templates)


@dataclass(frozen=True)
class _Tests:
    """What every way is measured on, and where all of it enters a block."""

    model: Model
    prior: np.ndarray
    items: Mapping[str, Items]
    starts: Mapping[str, Start]
    others: Others
    other_starts: OtherStarts

    @classmethod
    def of(cls, model: Model, found: Mitigation) -> _Tests:
        """Nothing is run yet."""
        material = found.material
        items = tested(model, material)
        starts = {name: start_at(model, some, 0) for name, some in items.items()}
        others = material.test_others
        other_starts = OtherStarts.of(model, others)
        return cls(model, found.evidence.prior, items, starts, others, other_starts)

    def at(self, layer: int) -> _Tests:
        """The same where all of it enters a later block."""
        starts = {name: start.at(self.model, layer) for name, start in self.starts.items()}
        others = self.other_starts.at(self.model, layer)
        return replace(self, starts=starts, other_starts=others)

    def see(self, condition: Condition, count: Count) -> Seen:
        """What comes of a condition, which must be in force; ``count`` counts layers of parts."""
        layers = self.model.anatomy.n_layers - self.other_starts.layer
        prior, read = self.prior if condition.without_prior else None, {}
        for name, items in self.items.items():
            answers = answer(self.model, items, self.starts[name])
            read[name] = _read(answers, prior, items.n_options)
            count(layers)
        others, k = look(self.model, self.others, self.other_starts), self.items[TEST].n_options
        count(layers)
        (top, best), turned = read.pop(TEST), read.pop(TURNED)[0].reshape(-1, k - 1)
        ordered = bias.chosen_options(np.column_stack([top[: len(turned)], turned]), k)
        return Seen(top, best, ordered, {name: of[0] for name, of in read.items()}, others)


def _see_all(
    tests: _Tests, conditions: Sequence[Condition], wanted: Sequence[int], progress: Progress
) -> tuple[dict[str, Seen], dict[int, Start]]:
    """Every way measured, from the first layer on that it changes.

    Also where the test's questions enter the blocks ``wanted``.
    """
    last, seen, starts = tests.model.anatomy.n_layers - 1, {}, {}

    def first(condition: Condition) -> int:
        return last if condition.first_layer is None else condition.first_layer

    layers = sum(last + 1 - first(condition) for condition in conditions)
    count = Count(progress, layers * (len(tests.items) + 1), "measuring")
    for layer in sorted({*map(first, conditions), *wanted}):
        tests = tests.at(layer)
        if layer in wanted:
            starts[layer] = tests.starts[TEST]
        for condition in conditions:
            if first(condition) == layer:
                with condition.edited():
                    seen[condition.name] = tests.see(condition, count)
    return {condition.name: seen[condition.name] for condition in conditions}, starts


def _read(answers: Answers, prior: np.ndarray | None, k: int) -> tuple[Predictions, Predictions]:
    """Predictions among all tokens and among letters; PriDe only knows the letters."""
    if prior is None:
        return answers.top, answers.best
    least = bias.without_prior(answers.letters, prior[:k]).argmax(axis=1)
    return least, least


def _row(seen: Seen, plain: Seen, items: Items) -> dict[str, Any]:
    gold, k = items.gold, items.n_options
    row: dict[str, Any] = {
        name: bootstrap(measure, len(gold)).to_json()
        for name, measure in measures(seen.top, gold, k).items()
    }
    among = measures(seen.best, gold, k)
    for name in ("accuracy", "A share, gold not A"):
        more = name.replace("accuracy", "accuracy among letters")
        more = more.replace("A share", "A share among letters")
        row[more] = bootstrap(among[name], len(gold)).to_json()
    same = seen.ordered
    row["consistency"] = bootstrap(lambda rows: bias.consistency(same[rows]), len(same)).to_json()
    was, now = plain.top == gold, seen.top == gold
    row["flips right to wrong"] = int((was & ~now).sum())
    row["flips wrong to right"] = int((~was & now).sum())
    return row


def _template(top: Predictions, items: Items) -> dict[str, Any]:
    found = measures(top, items.gold, items.n_options)
    names = ("accuracy", "A share, gold not A", "no letter")
    return {name: bootstrap(found[name], len(items)).to_json() for name in names}


def _others(seen: Sideways, plain: Sideways) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, right in seen.right.items():
        was = plain.right[name]
        row[name] = {
            "accuracy": bootstrap(lambda r, x=right: float(x[r].mean()), len(right)).to_json(),  # type: ignore[misc]
            "change": bootstrap(
                lambda r, x=right, y=was: float(x[r].mean() - y[r].mean()),  # type: ignore[misc]
                len(right),
            ).to_json(),
        }
    if len(seen.loss):

        def ratio(rows: np.ndarray) -> float:
            total = seen.count[rows].sum()
            return float(np.exp((seen.loss[rows].sum() - plain.loss[rows].sum()) / total) - 1)

        row["text"] = {"perplexity": seen.perplexity}
        row["text"]["change"] = bootstrap(ratio, len(seen.loss)).to_json()
    return row


def _knows(plain: Seen, debiased: Seen, items: Items) -> dict[str, Any]:
    """Whether the model answers above chance once the letters' prior is taken out."""

    def right(predicted: Predictions) -> Value:
        hits = predicted == items.gold
        return bootstrap(lambda rows: float(hits[rows].mean()), len(hits))

    chance, best = 1 / items.n_options, right(debiased.top)
    return {
        "accuracy": right(plain.top).to_json(),
        "accuracy among letters": right(plain.best).to_json(),
        "accuracy without prior": best.to_json(),
        "chance": chance,
        "above": best.low > chance,
    }
