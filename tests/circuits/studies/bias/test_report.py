"""The report card: its numbers from their definitions, its page, its fields, its folder."""

import json

import numpy as np
import pytest

import circuits
from circuits.cli.edit import summary
from circuits.edits.live import editing
from circuits.studies.bias import mitigate, recipes, report
from circuits.studies.bias.answers import Value, answer
from circuits.studies.bias.conditions import CLAIMS, NO_EDIT, RIVAL
from circuits.studies.bias.criteria import criteria
from circuits.studies.bias.report_card import ReportCard
from circuits.studies.bias.report_text import page
from circuits.studies.bias.settings import RECIPES
from graphs.files import write_json
from tasks.errors import RunError
from tests.circuits.studies.bias.conftest import SETTINGS

SHARE = "A share, gold not A"


@pytest.fixture(scope="module")
def made(biased):
    """A mitigation of the biased model, and its report card."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "COUNTS", (1,))
        patch.setattr(recipes, "STRENGTHS", (1.0,))
        found = mitigate.find_mitigation(biased, SETTINGS)
    return found, report.report_card(biased, found)


@pytest.fixture(scope="module")
def card(made):
    return made[1]


def test_the_chosen_edit_is_measured_as_defined(biased, made):
    found, card = made
    items, gold = found.material.test, found.material.test.gold
    row, plain = card["conditions"][card.chosen], answer(biased, items)
    with editing(biased, found.search.best.candidate.edits, found.evidence.basis):
        seen = answer(biased, items)
    right = seen.top == gold
    assert row["accuracy"]["value"] == pytest.approx(right.mean())
    assert row[SHARE]["value"] == pytest.approx((seen.top == 0)[gold != 0].mean())
    assert row["no letter"]["value"] == pytest.approx((seen.top == -1).mean())
    assert row["accuracy among letters"]["value"] == pytest.approx((seen.best == gold).mean())
    recalls = [right[gold == i].mean() for i in range(4)]
    assert row["RStd"]["value"] == pytest.approx(100 * np.std(recalls))
    assert [row[f"accuracy, gold {x}"]["value"] for x in "ABCD"] == pytest.approx(recalls)
    assert row["flips right to wrong"] == ((plain.top == gold) & ~right).sum()
    assert row["flips wrong to right"] == (right & (plain.top != gold)).sum()


def test_the_rival_takes_the_prior_of_the_training_questions_off(biased, made):
    found, card = made
    letters = answer(biased, found.material.train).letters
    logs = letters - np.log(np.exp(letters).sum(axis=1, keepdims=True))
    tested = answer(biased, found.material.test).letters - logs.mean(axis=0)
    hits = tested.argmax(axis=1) == found.material.test.gold
    assert card["conditions"][RIVAL]["accuracy"]["value"] == pytest.approx(hits.mean())
    assert card["knows"]["accuracy without prior"] == card["conditions"][RIVAL]["accuracy"]


def test_consistency_counts_questions_answered_alike_in_all_orders(biased, made):
    found, card = made
    test = found.material.test
    alike = []
    for question in test.questions:
        chosen = set()
        for by in range(4):
            items = report.in_all_orders(biased.tokenizer, test[:1])
            items = mitigate.make_items(biased.tokenizer, [question.turned(by)])
            top = int(answer(biased, items).top[0])
            chosen.add(-1 - by if top < 0 else question.turned(by).options[top])
        alike.append(len(chosen) == 1)
    assert card["conditions"][NO_EDIT]["consistency"]["value"] == pytest.approx(np.mean(alike))


def test_every_way_says_what_it_is(card):
    kinds = [about["kind"] for about in card["about"]]
    assert kinds[:2] == ["baseline", "rival"]
    assert kinds[-1] == "control"
    assert set(RECIPES) < set(CLAIMS)
    for about in card["about"]:
        assert about["claim"] == CLAIMS[about["condition"]]
        if about["kind"] == "recipe":
            assert about["candidates"] >= 1
            assert about["places"]
    assert set(card.names) == set(card["conditions"]) == set(card["others"])


def test_the_terminal_says_what_changed_with_its_interval(card):
    lines = summary(card)
    row = card["conditions"][card.chosen]["accuracy"]
    ends = f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    assert f"On {card['questions']['test']} held-out questions, with 95 % intervals:" in lines
    (accuracy,) = [line for line in lines if line.startswith("  accuracy ")]
    assert accuracy.endswith(f"{100 * row['value']:.1f} % {ends} after")
    assert sum(line.startswith(("  met ", "  missed ")) for line in lines) == len(card["criteria"])


def test_the_page_says_why_rows_are_those_of_no_edit(card):
    text = page(card)
    alike = [
        about["condition"]
        for about in card["about"]
        if about["kind"] == "recipe"
        and card["conditions"][about["condition"]] == card["conditions"][NO_EDIT]
    ]
    assert alike
    assert f"differs from no edit's: {', '.join(alike)}." in text
    for about in card["about"]:
        assert f"| {about['condition']} | {about['claim']} |" in text
    for recipe in card["search"]["proposed_nothing"]:
        assert f"Nothing passed the tests of {recipe}" in text


def test_the_page_of_a_model_that_does_not_know_says_chance(card):
    unknowing = {**card, "knows": {**card["knows"], "above": False}}
    text = page(unknowing)
    assert "This model does not know the answers" in text
    assert "chance is 0.25" in text
    assert "No edit can make it right" in text
    knowing = page({**card, "knows": {**card["knows"], "above": True}})
    assert "does not know" not in knowing


def test_the_page_survives_its_own_file(card):
    """Names are sorted in the file; the order of the conditions is not lost."""
    again = ReportCard(json.loads(write_json(card)))
    assert again.names == card.names
    assert again.to_frame().sort_index().equals(card.to_frame().sort_index())
    for about in card["about"]:
        assert page(again).count(f"| {about['condition']} |") == page(card).count(
            f"| {about['condition']} |"
        )


def test_infinite_and_missing_numbers_are_told_apart(card):
    infinite = Value(float("inf"), 0.5, float("inf"), 9).to_json()
    assert infinite == {"value": "Infinity", "low": 0.5, "high": "Infinity", "n": 9}
    assert Value(float("nan"), float("nan"), float("nan"), 9).to_json()["value"] is None
    conditions = {condition: dict(row) for condition, row in card["conditions"].items()}
    conditions[NO_EDIT]["CKLD"] = infinite
    conditions[NO_EDIT]["accuracy, gold B"] = {"value": None, "low": None, "high": None, "n": 9}
    other = ReportCard({**card, "conditions": conditions})
    text = page(other)
    assert "infinite [0.500, infinite]" in text
    row = next(
        line
        for line in text.split("## By right letter")[1].splitlines()
        if line.startswith(f"| {NO_EDIT} |")
    )
    assert row.split(" | ")[2] == "none"
    assert other.value(NO_EDIT, "CKLD") == float("inf")
    assert np.isnan(other.value(NO_EDIT, "accuracy, gold B"))
    json.loads(write_json(other))


@pytest.mark.parametrize(
    ("condition", "measure", "value", "criterion"),
    [
        ("chosen", SHARE, 0.31, "A share where gold is not A"),
        ("chosen", "RStd", 10.0, "RStd falls"),
        ("chosen", "accuracy", 0.4, "accuracy minus PriDe's"),
    ],
)
def test_a_bar_that_is_missed_is_missed(condition, measure, value, criterion):
    row = {SHARE: 0.1, "RStd": 1.0, "accuracy": 0.9}
    conditions = {
        NO_EDIT: {**row, "RStd": 30.0},
        RIVAL: row,
        "chosen": row,
    }
    change = {"ioi": 0.0, "mental_math": -0.01, "text": 0.01}

    def filled_card(conditions):
        as_json = {w: {k: {"value": v} for k, v in r.items()} for w, r in conditions.items()}
        others = {"chosen": {name: {"change": {"value": v}} for name, v in change.items()}}
        return {
            "chosen": "chosen",
            "conditions": as_json,
            "others": others,
            "random": [0.01, -0.02],
        }

    assert all(found["met"] for found in criteria(filled_card(conditions)))
    worse = {**conditions, condition: {**row, measure: value}}
    missed = [found["criterion"] for found in criteria(filled_card(worse)) if not found["met"]]
    assert len(missed) == 1
    assert missed[0].startswith(criterion)


def test_one_call_writes_the_folder_and_force_replaces_it(biased, tmp_path):
    settings = {"train": 4, "test": 4, "others": 4, "recipes": ["least squares"]}
    first = circuits.mitigate(biased, tmp_path / "out", **settings)
    assert isinstance(first, ReportCard)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["about"] == first["about"]
    with pytest.raises(RunError, match="replace it with --force"):
        circuits.mitigate(biased, tmp_path / "out", **settings)
    again = circuits.mitigate(biased, tmp_path / "out", **settings, force=True)
    assert again["about"] == first["about"]
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"files beside its mitigation \(notes.txt\)"):
        circuits.mitigate(biased, tmp_path / "out", **settings, force=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match="not a mitigation"):
        circuits.mitigate(biased, tmp_path / "elsewhere", **settings, force=True)
    assert not list(tmp_path.glob(".*"))
