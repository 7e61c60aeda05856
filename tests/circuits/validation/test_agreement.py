"""The measured agreement with exact patching: complete, of the model there is, and shown."""

import json

import pytest
from typer.testing import CliRunner

from circuits.cli.app import app
from circuits.models import fingerprint
from circuits.validation import agreement
from circuits.validation.agreement_measure import (
    DIRECTIONS,
    MODEL,
    PAIRS,
    SEED,
    TASKS,
    measure,
    renewed,
)
from patching.methods import METHODS
from tasks.errors import FormatError

ESTIMATES = [name for name, method in METHODS.items() if method.tier == "estimate"]


def test_every_estimate_is_measured_on_every_task_for_nodes_and_edges():
    found = agreement.measured()
    assert (found["model"], found["tasks"]) == (MODEL, list(TASKS))
    assert (found["n"], found["seed"]) == (PAIRS, SEED)
    cells = {(r["task"], r["level"], r["direction"], r["method"]) for r in found["rows"]}
    wanted = {
        (task, level, direction, method)
        for task in TASKS
        for level in agreement.LEVELS
        for direction in DIRECTIONS
        for method in ESTIMATES
    }
    assert cells == wanted
    assert len(found["rows"]) == len(wanted)


def test_it_is_of_the_embedded_model_as_it_is():
    assert agreement.measured()["files"] == fingerprint(MODEL), "nano has changed: make agreement"


def test_measuring_again_gives_the_same():
    again = measure(tasks=("ioi",))["rows"]
    known = [row for row in agreement.measured()["rows"] if row["task"] == "ioi"]
    for row, before in zip(again, known, strict=True):
        assert row["method"] == before["method"]
        for name in ("pearson", "signs"):
            assert row[name]["value"] == pytest.approx(before[name]["value"], abs=0.02)


@pytest.mark.parametrize("row", agreement.measured()["rows"], ids=lambda row: row["method"])
def test_numbers_are_correlations_and_shares_within_their_intervals(row):
    for name, least in (("pearson", -1), ("spearman", -1), ("signs", 0), ("recall", 0)):
        measure = row[name]
        if measure["value"] is not None:
            low, high = measure["interval"]
            assert least <= low <= high <= 1
            assert least <= measure["value"] <= 1


def test_agreement_is_of_nodes_and_edges_task_by_task():
    told = agreement.agreement("secant")
    assert [part.split()[0] for part in told.split("; ")] == list(TASKS)
    assert told.count(" / ") == len(TASKS)
    value = agreement.pearson("secant", "ioi", "edge")
    assert f"/ {value:.3f}".replace("0.", ".") in told
    assert agreement.agreement("activation") == "exact by definition"


def test_what_is_not_defined_is_said_so(monkeypatch):
    rows = [dict(row, pearson={"value": None}) for row in agreement.measured()["rows"]]
    monkeypatch.setattr(agreement, "measured", lambda: {"tasks": ["ioi"], "rows": rows})
    assert agreement.agreement("secant") == "ioi undefined / undefined"


def test_the_command_tells_it_and_where_it_was_measured(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    told = CliRunner().invoke(app, ["methods", "--agreement"]).stdout
    for method in METHODS:
        assert agreement.agreement(method) in told
    assert agreement.measured_on() in told
    rows = json.loads(CliRunner().invoke(app, ["methods", "--agreement", "--json"]).stdout)
    assert [row["name"] for row in rows] == list(METHODS)


def test_a_page_is_renewed_where_its_table_is(root):
    page = (root / "docs" / "explanation" / "trust.md").read_text(encoding="utf-8")
    assert renewed(page) == page
    table = "\n".join(agreement.agreement_table())
    assert renewed(page.replace(table, "| how far to trust it | |\n| --- | --- |")) == page
    with pytest.raises(FormatError, match="0 paragraphs"):
        renewed("nothing\n", "page.md")
