"""One report, in a terminal, as Markdown and as HTML."""

import pytest

from circuits.cli.printing import print_report
from circuits.results.pictures import figure, literal, save, whiskers
from circuits.results.report import Picture, Report, Reported
from circuits.results.tables import Rows, Table, harmless

TABLE = Table(["way", "share"], [["plain", "0.5"], ["<b>|", "1.0"]])


class Result(Reported):
    def report(self):
        rows = Rows({"prompts": "12", "faithfulness": "97 %"})
        return Report.of("It *holds*.", "", rows, TABLE, Picture(lambda: figure(1, 1), "<nothing>"))


def test_text_has_everything_but_the_picture():
    assert str(Result()).splitlines() == [
        *("It *holds*.", "", "prompts       12", "faithfulness  97 %", ""),
        *("way    share", "plain  0.5", "<b>|   1.0"),
    ]


def test_markdown_has_tables_and_leaves_paragraphs_as_they_are():
    page = Result().report().markdown()
    assert page.startswith("It *holds*.\n\n|  |  |\n| --- | --- |\n| prompts | 12 |\n")
    assert page.endswith("| way | share |\n| --- | --- |\n| plain | 0.5 |\n| <b>| | 1.0 |\n")


def test_html_is_escaped_and_has_the_picture():
    page = Result()._repr_html_()
    assert "&lt;b&gt;|" in page
    assert 'alt="&lt;nothing&gt;"' in page
    assert "data:image/svg+xml;base64," in page
    assert "<b>" not in page


def test_the_terminal_prints_the_same_words(capsys):
    print_report(Result().report())
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["It *holds*.", "prompts       12", "faithfulness  97 %"]
    assert lines[-1].split() == ["<b>|", "1.0"]


def test_marks_of_markdown_are_taken_away():
    assert harmless("a|b\n<i>*`") == r"a\|b \<i\>\*\`"
    assert literal("$x$") == r"\$x\$"


def test_whiskers_reach_to_the_ends_and_never_past_the_value():
    below, above = whiskers([0.5, 1.0, 0.2], [(0.25, 0.75), None, (0.3, 0.4)])
    assert below == pytest.approx([0.25, 0.0, 0.0])
    assert above == pytest.approx([0.25, 0.0, 0.2])


@pytest.mark.parametrize("form", ["svg", "png", "pdf"])
def test_equal_pictures_are_equal_files(tmp_path, form):
    for name in ("a", "b"):
        drawn = figure(2, 1)
        drawn.subplots().plot([0, 1])
        save(drawn, tmp_path / f"{name}.{form}")
    assert (tmp_path / f"a.{form}").read_bytes() == (tmp_path / f"b.{form}").read_bytes()
