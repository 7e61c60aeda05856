"""The report card as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from circuits.studies.bias.localise import GAP
from circuits.studies.bias.mitigate import RANDOM_WORDS
from circuits.studies.bias.race import FEWEST_KEPT
from circuits.validation.statistics import spearman

COLUMNS = (
    "accuracy",
    "accuracy among letters",
    "A share, gold not A",
    "A share among letters, gold not A",
    "no letter",
    "RStd",
    "CKLD",
    "consistency",
)
FORMS = ("accuracy", "A share, gold not A", "no letter")
PLACES = 6
LOCALISED = 15
EFFECT = {"effect": "+.3f", "error": ".3f"}
MEANINGS = """\
* accuracy: the most likely token of all is the right letter; among letters: the most likely letter
  is, whatever other tokens do
* A share, gold not A: how often A is answered where it is wrong; no letter: how often another token
  is
* RStd: standard deviation of the letters' recalls in percentage points; CKLD: divergence of the
  letters answered from the right letters in nats, infinite where a letter that is right somewhere
  is never answered; 0 is best for both
* consistency: the same option is chosen in every order of the options"""


def page(card: Mapping[str, Any]) -> str:
    """The Markdown page."""
    parts = ["# Report card: bias towards A", *_verdict(card), "## What is compared", _about(card)]
    n, ordered = card["questions"]["test"], card["questions"]["in_all_orders"]
    parts += [f"## Held-out questions (n = {n}; consistency: {ordered} of them in all orders)"]
    parts += [_lines(*ways_table(card)), MEANINGS]
    conditions = _ordered(card, card["conditions"])
    letters = [name for name in next(iter(conditions.values())) if name.startswith("accuracy, ")]
    parts += [
        "## By right letter, and flips",
        _lines(*_measured(conditions, letters)),
        _flips(conditions),
    ]
    parts += [part for name in card["templates"] for part in _form(card, name)]
    parts += ["## Side effects", _others(card), "## The published edit (uses the right answer)"]
    parts += [_paper(card["paper"]), "## Where the bias is written", _localised(card["localised"])]
    return "\n\n".join(parts) + "\n"


def ways_table(card: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column titles, and a row per way of answering."""
    return _measured(_ordered(card, card["conditions"]), COLUMNS)


def _verdict(card: Mapping[str, Any]) -> list[str]:
    q = card["questions"]
    left = (
        f" {q['too_long']} more are too long for the model and left out." if q["too_long"] else ""
    )
    if q["unknown_words"]:
        left += f" {q['unknown_words']:.0%} of their words are unknown to its tokenizer."
    lines = [
        f"Model {_text(card['model']['name'])}, {card['model']['hash'][:12]}. Chosen on "
        f"{q['train']} training questions in all orders without their answers, measured on "
        f"{q['test']} held-out ones with {q['options']} options.{left} Intervals are 95 % "
        "bootstrap intervals over questions.",
        _knows(card["knows"]),
    ]
    if card["chosen"] is None:
        tried = f"{card['search']['tried']} candidates were tried"
        return [*lines, f"**No edit was better than doing nothing** ({tried}); no model was saved."]
    chosen = next(about for about in card["about"] if about["condition"] == card["chosen"])
    lines.append(f"Chosen edit: **{_text(card['plan'])}**, of {_places(chosen['places'])}.")
    rows = [
        [c["criterion"], f"{c['measured']:+.4f}", "met" if c["met"] else "missed"]
        for c in card["criteria"]
    ]
    notes = [f"Of the random edits the largest moves it by {max(map(abs, card['random'])):.4f}."]
    share = "A share, gold not A"
    for name, conditions in card["templates"].items():
        now, before = (
            _cell(conditions[condition][share]) for condition in (card["chosen"], "no edit")
        )
        notes.append(f"In another form, {name}, the A share is {now}; without the edit {before}.")
    return [*lines, _lines(["criterion", "measured", ""], rows), "\n".join(f"* {n}" for n in notes)]


def _knows(knows: Mapping[str, Any]) -> str:
    now, letter, best = (
        _cell(knows[name])
        for name in ("accuracy", "accuracy among letters", "accuracy without prior")
    )
    told = (
        f"As it answers it is right on {now}, by its most likely letter on {letter}, without its "
    )
    told += f"letter prior on {best}; chance is {knows['chance']:.2f}."
    if knows["above"]:
        return told
    return (
        f"**This model does not know the answers**: without its letter prior it is right no more "
        f"often than chance. {told} No edit can make it right; what follows is about letters alone."
    )


def _about(card: Mapping[str, Any]) -> str:
    rows, same = [], []
    for about in card["about"]:
        found = [about["condition"], about["claim"]]
        if about["kind"] == "recipe":
            best = f"{_places(about['places'])}; strength {about['strength']:g}"
            found += [str(about["candidates"]), best, _cell(about["gain"]), about["verdict"]]
            if _alike(card, about["condition"]):
                same.append(about["condition"])
        rows.append([*found, *[""] * (6 - len(found))])
    head = ["condition", "what it does", "tried", "the best of them", "gain in training", "verdict"]
    told = (
        "Gain: agreement between the orders of a question less the imbalance of the letters, minus "
        f"that of doing nothing ({card['search']['nothing']:.3f}). Only a sure gain that harms "
        "nothing can be chosen; of a recipe without one, the rows below show what came nearest."
    )
    if len(heats := card["search"]["heats"]) > 1:
        told += (
            f" Of every recipe the better half went on after {' and '.join(map(str, heats[:-1]))} "
            f"of the {heats[-1]} questions, at least {FEWEST_KEPT}."
        )
    if same:
        told += f" No answer to a held-out question differs from no edit's: {', '.join(same)}."
    for name in card["search"]["proposed_nothing"]:
        told += f" Nothing passed the tests of {name}, so it has no row."
    return _lines(head, rows) + "\n\n" + told


def _alike(card: Mapping[str, Any], condition: str) -> bool:
    return bool(card["conditions"][condition] == card["conditions"]["no edit"])


def _places(places: Sequence[str]) -> str:
    shown = ", ".join(places[:PLACES])
    return shown if len(places) <= PLACES else f"{shown} and {len(places) - PLACES} more"


def _flips(conditions: Mapping[str, Mapping[str, Any]]) -> str:
    names = ("flips right to wrong", "flips wrong to right")
    return _lines(
        ["condition", *names], [[w, *(str(r[f]) for f in names)] for w, r in conditions.items()]
    )


def _form(card: Mapping[str, Any], name: str) -> list[str]:
    conditions = _ordered(card, card["templates"][name])
    n = next(iter(conditions.values()))["accuracy"]["n"]
    head = f"## Questions in another form: {name} (n = {n})"
    if name != RANDOM_WORDS:
        return [head, _lines(*_measured(conditions, FORMS))]
    told = "No option is an answer to these, so nothing here is right: an unbiased model would say "
    told += f"A to {card['knows']['chance']:.2f} of them."
    return [head, told, _lines(*_measured(conditions, FORMS[1:]))]


def _others(card: Mapping[str, Any]) -> str:
    others = _ordered(card, card["others"])
    names = list(next(iter(others.values())))
    rows = [
        [condition, *(_cell(row[n]["change"]) for n in names)] for condition, row in others.items()
    ]
    head = ["change by", *(f"{n} (relative perplexity)" if n == "text" else n for n in names)]
    parts = [_lines(head, rows) if names else "Nothing could be measured."]
    if names:
        plain = others["no edit"]
        told = [
            f"perplexity of text {plain[n]['perplexity']:.2f}"
            if n == "text"
            else f"{n} {_cell(plain[n]['accuracy'])} right, n = {plain[n]['accuracy']['n']}"
            for n in names
        ]
        parts.append(f"Without an edit: {'; '.join(told)}.")
    missing = [f"* {name}: {_text(why)}" for name, why in card["others_missing"].items()]
    return "\n\n".join([*parts, *(["Not measured:\n\n" + "\n".join(missing)] if missing else [])])


def _paper(paper: Mapping[str, Any]) -> str:
    told = (
        f"One value vector, {paper['vector']}, which passes the published test on "
        f"{paper['passes_published_test']:.0%} of the prompts, is changed by lambda1 = "
        f"{paper['lambda1']:g} times A's direction, taken off, and lambda2 = {paper['lambda2']:g} "
        "times the right letter's, put in, question by question: the edit holds the answer. No "
        "saved model can do that; one letter written in for all questions is what it can."
    )
    own = _lines(["accuracy with each question's own letter", "result"], [
        [name if name != "answered A wrongly before, other vector" else
         f"answered A wrongly before, in {paper['other_vector']} instead", _cell(value)]
        for name, value in paper["own letter"].items()
    ])  # fmt: skip
    head = ["letter written in for all", "accuracy", "accuracy, gold A", "share answered so"]
    rows = [[letter, *(_cell(v) for v in of.values())]
            for letter, of in paper["one letter for all"].items()]  # fmt: skip
    return "\n\n".join([told, own, _lines(head, rows)])


def _localised(found: Mapping[str, Any]) -> str:
    parts = found["parts"]
    rows = []
    for part in parts[:LOCALISED]:
        effect, error = (_absent(part[name], form) for name, form in EFFECT.items())
        numbers = [effect, error, f"{part['direct']:+.3f}", f"{part['gap']:+.3f}"]
        tokens = " ".join(_text(repr(token)) for token in part["tokens"])
        rows.append([part["name"], *numbers, f"{part['found']:.0%}", tokens])
    head = ["part", "effect of removing it", "standard error", "direct share", "gap (published)"]
    head += ["passes the published test", "tokens promoted"]
    told = (
        f"{found['letter']!r} is ahead of the right letter by {found['difference']:+.3f} on "
        f"{found['n']} training questions in an order in which another letter is right. The gap is "
        "what a part writes, unembedded by itself; the effect is by how much that lead shrinks "
        f"without the part. Tokens in the basis `{found['basis']}`."
    )
    removed = sum(part["effect"] is not None for part in parts)
    if removed < len(parts):
        told += f" Of {len(parts)} parts the {removed} with the largest first-order estimates of "
        told += "their effect, kind by kind, were removed; the others come last."
    return "\n\n".join([told, _lines(head, rows), _agreement(parts)])


def _agreement(parts: Sequence[Mapping[str, Any]]) -> str:
    vectors = [part for part in parts if ".n" in part["name"]]
    removed = [part for part in vectors if part["effect"] is not None]
    effects, gaps = (np.array([part[name] for part in removed]) for name in ("effect", "gap"))
    passing = sorted((p for p in vectors if p["found"] > 0), key=lambda p: -p["found"])
    listed = ", ".join(
        f"{p['name']} ({p['found']:.0%}, effect {_absent(p['effect'], '+.3f')})"
        for p in passing[:PLACES]
    )
    tested = f"Largest shares: {listed}." if listed else "None passes on any prompt."
    return (
        f"Over the {len(removed)} value vectors taken away, the rank correlation of gap and effect "
        f"is {spearman(effects, gaps):+.2f}. A gap above {GAP:g} is the published test. {tested}"
    )


def _absent(value: float | None, form: str) -> str:
    """A number that may not have been measured."""
    return "none" if value is None else format(value, form)


def _ordered(card: Mapping[str, Any], of: Mapping[str, Any]) -> dict[str, Any]:
    return {about["condition"]: of[about["condition"]] for about in card["about"]}


def _measured(
    conditions: Mapping[str, Mapping[str, Any]], columns: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    rows = [
        [condition, *(_cell(row[name]) for name in columns)]
        for condition, row in conditions.items()
    ]
    return ["condition", *columns], rows


def _cell(value: Mapping[str, Any] | None) -> str:
    """A value with its interval; one number where the interval is nothing but that number."""
    if value is None or value["value"] is None:
        return "none"
    middle, low, high = (_number(value[name]) for name in ("value", "low", "high"))
    return middle if middle == low == high == "infinite" else f"{middle} [{low}, {high}]"


def _number(value: float | str | None) -> str:
    if value is None:
        return "none"
    return "infinite" if isinstance(value, str) else f"{value:.3f}"


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: str) -> str:
    """Text from a model or a file, harmless in Markdown."""
    return "".join("\\" + c if c in "\\`*_[]<>|#" else c for c in str(value))
