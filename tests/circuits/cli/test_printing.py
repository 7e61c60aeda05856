"""Tables on a terminal of eighty columns, and on a narrower one."""

import pytest

from circuits.cli.printing import print_table
from circuits.results.tables import Table

GAP = "1.061 (-0.002, -0.008 to +0.002)"
AREA = "1.064 [1.055, 1.073]"


@pytest.mark.parametrize("columns", ["60", "80"])
@pytest.mark.parametrize(
    ("titles", "row"),
    [
        (
            ["run", "edges", "faithfulness", "CPR", "CMD", "log CPR", "log CMD", "Jaccard"],
            ["sure", "163", "98.7%", GAP, GAP, GAP, GAP, "0.37"],
        ),
        (["ranking", "CPR", "CMD", "log CPR", "log CMD"], ["secant, absolute", *[AREA] * 4]),
        (
            ["faithfulness at", *(f"{size} %" for size in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50))],
            ["secant, absolute", *["-0.01"] * 9],
        ),
    ],
)
def test_no_word_and_no_number_is_cut(capsys, monkeypatch, columns, titles, row):
    monkeypatch.setenv("COLUMNS", columns)
    print_table(Table(titles, [row, row]))
    text = capsys.readouterr().out
    assert all(len(line) <= 80 and not line.endswith(" ") for line in text.splitlines())
    words = text.split()
    for word in " ".join([*titles, *row]).split():
        assert word in words, word


def test_an_interval_stands_below_its_number_in_one_piece(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_table(Table(["ranking", "CPR", "CMD", "log CPR", "log CMD"], [["secant", *[AREA] * 4]]))
    _, numbers, intervals = capsys.readouterr().out.splitlines()
    assert numbers.split() == ["secant", *["1.064"] * 4]
    assert intervals.split("  ")[-1].strip() == "[1.055, 1.073]"
    assert intervals.count("[1.055, 1.073]") == 4
