"""The report card of a mitigation: before and after, rivals, controls, side effects, intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from circuits.models import name_of
from circuits.results.intervals import Estimate
from circuits.studies.bias.answers import Answers, answer, measures, start_at
from circuits.studies.bias.conditions import NO_EDIT, RIVAL, Condition, all_conditions
from circuits.studies.bias.controls import DRAWS, random_moves
from circuits.studies.bias.items import Items, in_all_orders
from circuits.studies.bias.mitigate import Material, Mitigation, unseen
from circuits.studies.bias.other_tasks import Others, OtherStarts, Sideways, look
from circuits.studies.bias.paper_edit import paper_edit, published_vector
from circuits.studies.bias.report_card import KIND, ReportCard
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


def report_card(model: Model, mitigation: Mitigation, progress: Progress = unseen) -> ReportCard:
    """Measure everything on the test split; plain values for ``report.json``."""
    test, best = mitigation.material.test, mitigation.search.best
    conditions = all_conditions(model, mitigation)
    published = parse_site(published_vector(mitigation.bias).name).layer
    changed = published if best is None else best.candidate.first_layer
    tests = _Tests.of(model, mitigation)
    seen, starts = _see_all(tests, conditions, (published, changed), progress)
    plain, start = seen[NO_EDIT], starts[published]
    paper = paper_edit(model, test, mitigation.bias, plain.top, start=start, progress=progress)
    random = [] if best is None else _random_moves(model, mitigation, starts[changed], progress)
    card = {
        "kind": KIND,
        "schema_version": "2.0",
        "model": {"name": name_of(model.path), "hash": model.hash, "path": str(model.path)},
        "settings": asdict(mitigation.settings),
        "questions": _questions(mitigation.material, len(plain.ordered)),
        "chosen": None if best is None else best.candidate.recipe,
        "plan": None if mitigation.plan is None else mitigation.plan.note,
        "knows": _knows(plain, seen[RIVAL], test),
        "about": [condition.about() for condition in conditions],
        "conditions": {name: _row(one, plain, test) for name, one in seen.items()},
        "templates": {
            name: {
                condition: _template(one.templates[name], items) for condition, one in seen.items()
            }
            for name, items in mitigation.material.templates.items()
        },
        "others": {name: _others(one.others, plain.others) for name, one in seen.items()},
        "others_missing": dict(mitigation.material.test_others.missing),
        "random": random,
        "paper": paper.to_json(),
        "localised": mitigation.bias.to_json(),
        "search": {
            "nothing": mitigation.search.nothing,
            "tried": len(mitigation.search.tried),
            "heats": list(mitigation.search.heats),
            "proposed_nothing": _absent(mitigation),
        },
    }
    return ReportCard(card | {"criteria": criteria(card)})


def _absent(mitigation: Mitigation) -> list[str]:
    """The recipes that were asked for and had nothing to propose."""
    recipes = mitigation.settings.recipes or RECIPES
    return [recipe for recipe in recipes if recipe not in mitigation.search.recipes]


def _questions(material: Material, ordered: int) -> dict[str, Any]:
    return {
        "train": len(material.train) // material.train.n_options,
        "test": len(material.test),
        "in_all_orders": ordered,
        "options": material.test.n_options,
        "too_long": material.too_long,
        "unknown_words": material.unknown,
        "left_out": list(material.left_out),
    }


def _random_moves(
    model: Model, mitigation: Mitigation, start: Start, progress: Progress
) -> list[float]:
    items, seed = mitigation.material.test, mitigation.settings.seed
    best, basis = mitigation.search.best, mitigation.evidence.basis
    assert best is not None
    return random_moves(model, best.candidate.edits, basis, items, seed, progress, start)


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
    def of(cls, model: Model, mitigation: Mitigation) -> _Tests:
        """Nothing is run yet."""
        material = mitigation.material
        items = tested(model, material)
        starts = {name: start_at(model, some, 0) for name, some in items.items()}
        others = material.test_others
        other_starts = OtherStarts.of(model, others)
        return cls(model, mitigation.evidence.prior, items, starts, others, other_starts)

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
        name: Estimate.of(measure, len(gold)).to_json()
        for name, measure in measures(seen.top, gold, k).items()
    }
    among = measures(seen.best, gold, k)
    for name in ("accuracy", "A share, gold not A"):
        more = name.replace("accuracy", "accuracy among letters")
        more = more.replace("A share", "A share among letters")
        row[more] = Estimate.of(among[name], len(gold)).to_json()
    same = seen.ordered
    row["consistency"] = Estimate.of(lambda rows: bias.consistency(same[rows]), len(same)).to_json()
    was, now = plain.top == gold, seen.top == gold
    row["flips right to wrong"] = int((was & ~now).sum())
    row["flips wrong to right"] = int((~was & now).sum())
    return row


def _template(top: Predictions, items: Items) -> dict[str, Any]:
    by_name = measures(top, items.gold, items.n_options)
    names = ("accuracy", "A share, gold not A", "no letter")
    return {name: Estimate.of(by_name[name], len(items)).to_json() for name in names}


def _others(seen: Sideways, plain: Sideways) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, right in seen.right.items():
        was = plain.right[name]
        row[name] = {
            "accuracy": Estimate.mean(right).to_json(),
            "change": Estimate.mean(right - 1.0 * was).to_json(),
        }
    if len(seen.loss):

        def ratio(rows: np.ndarray) -> float:
            total = seen.count[rows].sum()
            return float(np.exp((seen.loss[rows].sum() - plain.loss[rows].sum()) / total) - 1)

        row["text"] = {"perplexity": seen.perplexity}
        row["text"]["change"] = Estimate.of(ratio, len(seen.loss)).to_json()
    return row


def _knows(plain: Seen, debiased: Seen, items: Items) -> dict[str, Any]:
    """Whether the model answers above chance once the letters' prior is taken out."""

    def right(predicted: Predictions) -> Estimate:
        return Estimate.mean(predicted == items.gold)

    chance, best = 1 / items.n_options, right(debiased.top)
    return {
        "accuracy": right(plain.top).to_json(),
        "accuracy among letters": right(plain.best).to_json(),
        "accuracy without prior": best.to_json(),
        "chance": chance,
        "above": best.low > chance,
    }


def criteria(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry per bar: its text, the number measured on held-out questions, met or not."""
    chosen = card["chosen"]
    if chosen is None:
        return []
    conditions, others = card["conditions"], card["others"][chosen]

    def value(condition: str, name: str) -> float:
        number = conditions[condition][name]["value"]
        return float("nan") if number is None else float(number)

    share = value(chosen, "A share, gold not A")
    spread = 1 - value(chosen, "RStd") / max(value(NO_EDIT, "RStd"), 1e-12)
    rival = value(chosen, "accuracy") - value(RIVAL, "accuracy")
    bars = [
        ("A share where gold is not A, below 0.30", share, share < 0.3),
        ("RStd falls by, at least 0.80", spread, spread >= 0.8),
        ("accuracy minus PriDe's, at least -0.02", rival, rival >= -0.02),
    ]
    for name in ("ioi", "mental_math"):
        if name in others:
            change = others[name]["change"]["value"]
            bars.append((f"{name} accuracy changes by, at least -0.01", change, change >= -0.01))
    if "text" in others:
        change = others["text"]["change"]["value"]
        bars.append(("perplexity of text changes by, at most 0.01", change, change <= 0.01))
    moved = float(np.abs(card["random"]).mean())
    bars.append((f"{DRAWS} random edits move the A share by, at most 0.05", moved, moved <= 0.05))
    return [{"criterion": bar, "measured": number, "met": bool(met)} for bar, number, met in bars]
