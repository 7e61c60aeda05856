"""The report card as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from circuits.results.report import Block, Report
from circuits.results.tables import Table, harmless
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


def page(card: Mapping[str, Any]) -> Report:
    """The whole card, as a page."""
    n, ordered = card["questions"]["test"], card["questions"]["in_all_orders"]
    conditions = _ordered(card, card["conditions"])
    letters = [name for name in next(iter(conditions.values())) if name.startswith("accuracy, ")]
    return Report.of(
        "# Report card: bias towards A",
        *_verdict(card),
        "## What is compared",
        *_about(card),
        f"## Held-out questions (n = {n}; consistency: {ordered} of them in all orders)",
        conditions_table(card),
        MEANINGS,
        "## By right letter, and flips",
        _measured(conditions, letters),
        _flips(conditions),
        *(block for name in card["templates"] for block in _form(card, name)),
        "## Side effects",
        *_others(card),
        "## The published edit (uses the right answer)",
        *_paper(card["paper"]),
        "## Where the bias is written",
        *_localised(card["localised"]),
    )


def conditions_table(card: Mapping[str, Any]) -> Table:
    """A row per way of answering."""
    return _measured(_ordered(card, card["conditions"]), COLUMNS)


def _verdict(card: Mapping[str, Any]) -> Iterator[Block]:
    q = card["questions"]
    left = (
        f" {q['too_long']} more are too long for the model and left out." if q["too_long"] else ""
    )
    if form := card["settings"]["chat"]:
        left += f" All were put in a chat turn ({form})."
    if q["unknown_words"]:
        left += f" {q['unknown_words']:.0%} of their words are unknown to its tokenizer."
    if q["left_out"]:
        left += f" Of the file's rows: {harmless('; '.join(q['left_out']))}."
    yield (
        f"Model {harmless(card['model']['name'])}, {card['model']['hash'][:12]}. Chosen on "
        f"{q['train']} training questions in all orders without their answers, measured on "
        f"{q['test']} held-out ones with {q['options']} options.{left} Intervals are 95 % "
        "bootstrap intervals over questions."
    )
    yield _knows(card["knows"])
    if card["chosen"] is None:
        tried = f"{card['search']['tried']} candidates were tried"
        yield f"**No edit was better than doing nothing** ({tried}); no model was saved."
        return
    chosen = next(about for about in card["about"] if about["condition"] == card["chosen"])
    yield f"Chosen edit: **{harmless(card['plan'])}**, of {_places(chosen['places'])}."
    rows = [
        [c["criterion"], f"{c['measured']:+.4f}", "met" if c["met"] else "missed"]
        for c in card["criteria"]
    ]
    yield Table(["criterion", "measured", ""], rows)
    notes = [f"Of the random edits the largest moves it by {max(map(abs, card['random'])):.4f}."]
    share = "A share, gold not A"
    for name, conditions in card["templates"].items():
        now, before = (
            _cell(conditions[condition][share]) for condition in (card["chosen"], "no edit")
        )
        notes.append(f"In another form, {name}, the A share is {now}; without the edit {before}.")
    yield "\n".join(f"* {note}" for note in notes)


def _knows(knows: Mapping[str, Any]) -> str:
    now, letter, best = (
        _cell(knows[name])
        for name in ("accuracy", "accuracy among letters", "accuracy without prior")
    )
    shares = (
        f"As it answers it is right on {now}, by its most likely letter on {letter}, without its "
        f"letter prior on {best}; chance is {knows['chance']:.2f}."
    )
    if knows["above"]:
        return shares
    return (
        f"**This model does not know the answers**: without its letter prior it is right no more "
        f"often than chance. {shares} No edit can make it right; what follows is about letters "
        "alone."
    )


def _about(card: Mapping[str, Any]) -> tuple[Block, ...]:
    rows, same = [], []
    for about in card["about"]:
        cells = [about["condition"], about["claim"]]
        if about["kind"] == "recipe":
            best = f"{_places(about['places'])}; strength {about['strength']:g}"
            cells += [str(about["candidates"]), best, _cell(about["gain"]), about["verdict"]]
            if _alike(card, about["condition"]):
                same.append(about["condition"])
        rows.append([*cells, *[""] * (6 - len(cells))])
    head = ["condition", "what it does", "tried", "the best of them", "gain in training", "verdict"]
    notes = (
        "Gain: agreement between the orders of a question minus the imbalance of the letters, "
        f"compared with that of doing nothing ({card['search']['nothing']:.3f}). Only a sure "
        "gain that harms nothing can be chosen; of a recipe without one, the rows below show "
        "what came nearest."
    )
    if len(heats := card["search"]["heats"]) > 1:
        notes += (
            f" Of every recipe the better half went on after {' and '.join(map(str, heats[:-1]))} "
            f"of the {heats[-1]} questions, at least {FEWEST_KEPT}."
        )
    if same:
        notes += f" No answer to a held-out question differs from no edit's: {', '.join(same)}."
    for name in card["search"]["proposed_nothing"]:
        notes += f" Nothing passed the tests of {name}, so it has no row."
    return Table(head, rows), notes


def _alike(card: Mapping[str, Any], condition: str) -> bool:
    return bool(card["conditions"][condition] == card["conditions"]["no edit"])


def _places(places: Sequence[str]) -> str:
    shown = ", ".join(places[:PLACES])
    return shown if len(places) <= PLACES else f"{shown} and {len(places) - PLACES} more"


def _flips(conditions: Mapping[str, Mapping[str, Any]]) -> Table:
    names = ("flips right to wrong", "flips wrong to right")
    rows = [[name, *(str(row[flips]) for flips in names)] for name, row in conditions.items()]
    return Table(["condition", *names], rows)


def _form(card: Mapping[str, Any], name: str) -> tuple[Block, ...]:
    conditions = _ordered(card, card["templates"][name])
    n = next(iter(conditions.values()))["accuracy"]["n"]
    head = f"## Questions in another form: {name} (n = {n})"
    if name != RANDOM_WORDS:
        return head, _measured(conditions, FORMS)
    note = "No option is an answer to these, so nothing here is right: an unbiased model would say "
    note += f"A to {card['knows']['chance']:.2f} of them."
    return head, note, _measured(conditions, FORMS[1:])


def _others(card: Mapping[str, Any]) -> Iterator[Block]:
    others = _ordered(card, card["others"])
    names = list(next(iter(others.values())))
    rows = [
        [condition, *(_cell(row[n]["change"]) for n in names)] for condition, row in others.items()
    ]
    head = ["change by", *(f"{n} (relative perplexity)" if n == "text" else n for n in names)]
    yield Table(head, rows) if names else "Nothing could be measured."
    if names:
        plain = others["no edit"]
        values = [
            f"perplexity of text {plain[n]['perplexity']:.2f}"
            if n == "text"
            else f"{n} {_cell(plain[n]['accuracy'])} right, n = {plain[n]['accuracy']['n']}"
            for n in names
        ]
        yield f"Without an edit: {'; '.join(values)}."
    if missing := card["others_missing"]:
        yield "Not measured:"
        yield "\n".join(f"* {name}: {harmless(why)}" for name, why in missing.items())


def _paper(paper: Mapping[str, Any]) -> tuple[Block, ...]:
    edit = (
        f"One value vector, {paper['vector']}, which passes the published test on "
        f"{paper['passes_published_test']:.0%} of the prompts, is changed by lambda1 = "
        f"{paper['lambda1']:g} times A's direction, taken off, and lambda2 = {paper['lambda2']:g} "
        "times the right letter's, put in, question by question: the edit holds the answer. No "
        "saved model can do that; one letter written in for all questions is what it can."
    )
    own = Table(["accuracy with each question's own letter", "result"], [
        [name if name != "answered A wrongly before, other vector" else
         f"answered A wrongly before, in {paper['other_vector']} instead", _cell(value)]
        for name, value in paper["own letter"].items()
    ])  # fmt: skip
    head = ["letter written in for all", "accuracy", "accuracy, gold A", "share answered so"]
    rows = [[letter, *(_cell(v) for v in of.values())]
            for letter, of in paper["one letter for all"].items()]  # fmt: skip
    return edit, own, Table(head, rows)


def _localised(bias: Mapping[str, Any]) -> tuple[Block, ...]:
    parts = bias["parts"]
    rows = []
    for part in parts[:LOCALISED]:
        effect, error = (_absent(part[name], form) for name, form in EFFECT.items())
        numbers = [effect, error, f"{part['direct']:+.3f}", f"{part['gap']:+.3f}"]
        tokens = " ".join(harmless(repr(token)) for token in part["tokens"])
        rows.append([part["name"], *numbers, f"{part['found']:.0%}", tokens])
    head = ["part", "effect of removing it", "standard error", "direct share", "gap (published)"]
    head += ["passes the published test", "tokens promoted"]
    lead = (
        f"{bias['letter']!r} is ahead of the right letter by {bias['difference']:+.3f} on "
        f"{bias['n']} training questions in an order in which another letter is right. The gap is "
        "what a part writes, unembedded by itself; the effect is by how much that lead shrinks "
        f"without the part. Tokens in the basis `{bias['basis']}`."
    )
    removed = sum(part["effect"] is not None for part in parts)
    if removed < len(parts):
        lead += f" Of {len(parts)} parts the {removed} with the largest first-order estimates of "
        lead += "their effect, kind by kind, were removed; the others come last."
    return lead, Table(head, rows), _agreement(parts)


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


def _measured(conditions: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> Table:
    rows = [
        [condition, *(_cell(row[name]) for name in columns)]
        for condition, row in conditions.items()
    ]
    return Table(["condition", *columns], rows)


def _cell(value: Mapping[str, Any] | None) -> str:
    """A value with its interval; one number where the interval is nothing but that number."""
    if value is None or value["value"] is None:
        return "none"
    middle, *ends = map(_number, (value["value"], *(value["interval"] or ())))
    return f"{middle} [{', '.join(ends)}]" if {*ends} - {"infinite"} else middle


def _number(value: float | str) -> str:
    return "infinite" if isinstance(value, str) else f"{value:.3f}"
