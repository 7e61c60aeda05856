"""The report in words says what the results say, with labels and replies escaped."""

import re

import pytest

from circuits.studies.emotion.text import CONDITIONS, page, percent, summary, trials_frame
from tests import tiny_emotion


@pytest.fixture(scope="module")
def results():
    return tiny_emotion.found().results


@pytest.fixture(scope="module")
def report(results):
    return page(results).markdown()


def tables(report):
    """Every table as rows of cells."""
    blocks = re.findall(r"(?:^\|.*\|$\n)+", report, re.MULTILINE)
    rows = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in b.splitlines()] for b in blocks]
    return [[[cell.strip() for cell in line] for line in table] for table in rows]


def test_percent():
    assert percent({"value": 0.5, "interval": [0.25, 1.0]}) == "50.0 [25.0, 100.0]"


def test_tables_are_whole(report):
    for table in tables(report):
        assert len({len(line) for line in table}) == 1
        assert set(table[1]) == {"---"}


def test_every_way_of_control_has_its_share_and_its_degenerate_replies(report, results):
    names = [row["name"] for row in results["trials"]]
    (by_label,) = (
        t
        for t in tables(report)
        if t[0][:3] == ["method", "all", "degenerate"][:3] and "calm" in t[0]
    )
    assert [line[0] for line in by_label[2:]] == names
    for line, row in zip(by_label[2:], results["trials"], strict=True):
        assert line[1:3] == [percent(row["all"]), percent(row["degenerate"])]


def test_probes_have_a_row_for_every_read_point(report, results):
    (conditions,) = (t for t in tables(report) if t[0][0] == "point" and "as they are" in t[0])
    assert [line[0] for line in conditions[2:]] == results["probes"]["points"]
    assert conditions[0][2:] == [
        "8 random tokens before",
        "weights of 8 bits",
        "weights of 4 bits",
        "labels shuffled",
    ]
    (tokens,) = (t for t in tables(report) if "token -1" in t[0])
    assert [line[1] for line in tokens[2:]] == [line[1] for line in conditions[2:]]


def test_strengths_say_what_they_gave(report, results):
    part = report.split("## Strengths")[1].split("## How")[0]
    (strengths,) = tables(part)
    assert [line[0] for line in strengths[2:]] == [
        "circuit",
        "steering",
        "steering along probes",
        "random components",
    ]
    chosen = results["strengths"]["circuit"]["chosen"]["calm"]
    assert strengths[2][1].startswith(f"{chosen:.3g}")


def test_labels_and_replies_are_escaped(report):
    assert "<b>" not in report
    assert r"$x\<b\>" in report
    assert "drawn 2 times" in report


def test_the_summary_has_a_line_for_every_way(results):
    conditions, claims = summary(results)
    assert conditions.head[-1] == "degenerate"
    assert [line[0] for line in conditions.rows] == [row["name"] for row in results["trials"]]
    for line, row in zip(claims.rows, results["claims"], strict=True):
        assert line[0] == row["claim"]
        assert ("NO" not in line[-1]) == row["holds"]
        assert ("not for sure" not in line[-1]) == row["sure"]


def test_the_report_opens_with_what_holds(report, results):
    """Before any other table; then every way is explained before its numbers are shown."""
    first = tables(report)[0]
    assert [line[0] for line in first[2:]] == [row["claim"] for row in results["claims"]]
    for line, row in zip(first[2:], results["claims"], strict=True):
        assert line[3].startswith("yes" if row["holds"] else "NO")
    start = report.split("## Control")[0]
    by_name = {row["name"]: row for row in results["trials"]}
    for name in ("prompting", "circuit", "steering", "random components"):
        assert percent(by_name[name]["all"]) in start
    assert "say one word over and over" in start
    for row in results["trials"]:
        assert f"* {row['name']}: {CONDITIONS[row['name']]}" in report


def test_every_way_has_one_example_for_every_label(report, results):
    examples = tables(report)[-1]
    assert examples[0] == ["method", "calm", r"$x\<b\>"]
    assert [line[0] for line in examples[2:]] == [row["name"] for row in results["trials"]]


def test_the_frame_has_the_same_numbers(results):
    frame = trials_frame(results["trials"])
    assert frame.loc["circuit", "all"] == results["trials"][2]["all"]["value"]
    assert (frame.low <= frame["all"]).all()
    assert (frame.degenerate == [row["degenerate"]["value"] for row in results["trials"]]).all()
