"""Tables on a terminal of eighty columns."""

from circuits.cli.tables import print_columns


def test_no_word_of_a_title_is_cut_and_an_interval_stands_below_its_number(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    titles = ["run", "edges", "faithfulness", "CPR", "CMD", "log CPR", "log CMD", "Jaccard"]
    gap = "1.061 (-0.002, -0.008 to +0.002)"
    print_columns(titles, [["ioi", "100", "98.7%", *["1.064"] * 4, "1.00"]] * 2)
    print_columns(titles[:6], [["sure", "163", "98.7%", *[gap] * 3]])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 and not line.endswith(" ") for line in lines)
    for title in " ".join(titles).split():
        assert any(title in line.split() for line in lines), title
    row = next(line for line in lines if line.startswith("sure"))
    assert row.split() == ["sure", "163", "98.7%", *["1.061"] * 3]
