"""The report card of a mitigation: before and after, rivals, controls, side effects, intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuits.bias.answers import Answers, Value, answer, bootstrap, measures
from circuits.bias.controls import DRAWS, aimed_elsewhere, random_changes, random_moves
from circuits.bias.items import Items, in_all_orders
from circuits.bias.mitigate import Mitigation, unseen
from circuits.bias.other_tasks import Others, Sideways, look
from circuits.bias.paper_edit import paper_edit
from circuits.bias.report_card import ReportCard
from circuits.edits.edit import AnyEdit
from circuits.edits.live import editing
from patching.model import Model
from patching.weights import changed_weights
from tasks import bias_measures as bias

NO_EDIT, RIVAL, RANDOM, ELSEWHERE = "no edit", "PriDe (inference time)", "random", "aimed at B"
ORDERED = 100
KIND = "circuits report card"
Predictions = np.ndarray


@dataclass(frozen=True)
class Way:
    """One way of answering: a context in which the model is changed, and how answers are read."""

    name: str
    edited: Callable[[], AbstractContextManager[Any]]
    without_prior: bool = False


@dataclass(frozen=True)
class Seen:
    """What came of one way on the test split."""

    top: Predictions
    best: Predictions
    ordered: np.ndarray
    templates: Mapping[str, Predictions]
    others: Sideways


def report_card(
    model: Model, found: Mitigation, progress: Callable[[int, int, str], None] = unseen
) -> ReportCard:
    """Measure everything on the test split; plain values for ``report.json``."""
    material = found.material
    ordered = in_all_orders(model.tokenizer, material.test[:ORDERED])
    ways = _ways(model, found)
    seen = {}
    for i, way in enumerate(ways):
        progress(i, len(ways), "measuring")
        with way.edited():
            seen[way.name] = _see(model, found, ordered, way)
    plain, gold, k = seen[NO_EDIT], material.test.gold, material.test.n_options
    best = found.search.best
    chosen = None if best is None else best.candidate.recipe
    rows = {name: _row(one, plain, material.test, k) for name, one in seen.items()}
    card = {
        "kind": KIND,
        "schema_version": "1.0",
        "model": {"hash": model.hash, "path": str(model.path)},
        "settings": vars_of(found.settings),
        "questions": {"train": len(material.train) // k, "test": len(gold), "options": k},
        "chosen": chosen,
        "random": [] if best is None else _random_moves(model, found, best.candidate.edits),
        "plan": None if found.plan is None else found.plan.note,
        "knows": _knows(seen[RIVAL].top, gold, k),
        "ways": rows,
        "templates": {
            name: {way: _template(one.templates[name], items, k) for way, one in seen.items()}
            for name, items in material.templates.items()
        },
        "others": {name: _others(one.others, plain.others) for name, one in seen.items()},
        "others_missing": dict(material.test_others.missing),
        "paper": paper_edit(model, material.test, found.bias, plain.top).to_json(),
        "localised": found.bias.to_json(),
        "search": {
            "nothing": found.search.nothing,
            "tried": len(found.search.tried),
            "best": [_tried(found, recipe) for recipe in found.search.recipes],
        },
    }
    return ReportCard(card | {"bars": _bars(card)})


def _random_moves(model: Model, found: Mitigation, edits: Sequence[AnyEdit]) -> list[float]:
    items, seed = found.material.test, found.settings.seed
    return random_moves(model, edits, found.evidence.basis, items, seed)


def vars_of(settings: Any) -> dict[str, Any]:
    """A dataclass of plain values as a dictionary."""
    from dataclasses import asdict

    return asdict(settings)


def _ways(model: Model, found: Mitigation) -> list[Way]:
    basis = found.evidence.basis

    def made(edits: Sequence[AnyEdit]) -> Callable[[], AbstractContextManager[Any]]:
        return lambda: editing(model, edits, basis)

    ways = [Way(NO_EDIT, nullcontext), Way(RIVAL, nullcontext, without_prior=True)]
    for recipe in found.search.recipes:
        tried = found.search.best_of(recipe)
        assert tried is not None
        ways.append(Way(recipe, made(tried.candidate.edits)))
    best = found.search.best
    if best is None:
        return ways
    edits = best.candidate.edits
    changes = random_changes(model, edits, basis, found.settings.seed)
    ways.append(Way(RANDOM, lambda: changed_weights(model, changes)))
    elsewhere = aimed_elsewhere(edits, found.evidence.letters)
    if elsewhere != edits:
        ways.append(Way(ELSEWHERE, made(elsewhere)))
    return ways


def _see(model: Model, found: Mitigation, ordered: Items, way: Way) -> Seen:
    material = found.material
    prior = found.evidence.prior if way.without_prior else None

    def read(items: Items) -> tuple[Predictions, Predictions]:
        return _read(answer(model, items), prior, items.n_options)

    top, best = read(material.test)
    k = ordered.n_options
    turned = bias.chosen_options(read(ordered)[0].reshape(-1, k), k)
    templates = {name: read(items)[0] for name, items in material.templates.items()}
    others: Others = material.test_others
    return Seen(top, best, turned, templates, look(model, others))


def _read(answers: Answers, prior: np.ndarray | None, k: int) -> tuple[Predictions, Predictions]:
    """Predictions among all tokens and among letters; PriDe only knows the letters."""
    if prior is None:
        return answers.top, answers.best
    least = bias.without_prior(answers.letters, prior[:k]).argmax(axis=1)
    return least, least


def _row(seen: Seen, plain: Seen, items: Items, k: int) -> dict[str, Any]:
    gold = items.gold
    row: dict[str, Any] = {
        name: bootstrap(measure, len(gold)).to_json()
        for name, measure in measures(seen.top, gold, k).items()
    }
    among = measures(seen.best, gold, k)["A share, gold not A"]
    row["A share among letters, gold not A"] = bootstrap(among, len(gold)).to_json()
    same = seen.ordered
    row["consistency"] = bootstrap(lambda rows: bias.consistency(same[rows]), len(same)).to_json()
    was, now = plain.top == gold, seen.top == gold
    row["flips right to wrong"] = int((was & ~now).sum())
    row["flips wrong to right"] = int((~was & now).sum())
    return row


def _template(top: Predictions, items: Items, k: int) -> dict[str, Any]:
    del k
    found = measures(top, items.gold, items.n_options)
    names = ("accuracy", "A share, gold not A")
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


def _knows(debiased: Predictions, gold: np.ndarray, k: int) -> dict[str, Any]:
    """Whether the model answers above chance once the letters' prior is taken out."""
    hits = debiased == gold
    value: Value = bootstrap(lambda rows: float(hits[rows].mean()), len(hits))
    return {"accuracy without prior": value.to_json(), "chance": 1 / k, "above": value.low > 1 / k}


def _tried(found: Mitigation, recipe: str) -> dict[str, Any]:
    tried = found.search.best_of(recipe)
    assert tried is not None
    c = tried.candidate
    return {
        "recipe": recipe,
        "layer": c.layer,
        "size": c.size,
        "strength": c.strength,
        "score": tried.score,
        "gain": tried.gain.to_json(),
        "harmless": tried.harmless,
    }


def _bars(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is asked of a mitigation, and whether the chosen edit does it."""
    chosen = card["chosen"]
    if chosen is None:
        return []
    ways, others = card["ways"], card["others"][chosen]

    def value(way: str, name: str) -> float:
        found = ways[way][name]["value"]
        return float("nan") if found is None else float(found)

    share = "A share, gold not A"
    spread = 1 - value(chosen, "RStd") / max(value(NO_EDIT, "RStd"), 1e-12)
    rival = value(chosen, "accuracy") - value(RIVAL, "accuracy")
    bars = [
        (
            "A share where gold is not A, below 0.30",
            value(chosen, share),
            value(chosen, share) < 0.3,
        ),
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
    return [{"bar": bar, "measured": number, "met": bool(met)} for bar, number, met in bars]
