"""`circuits show --format`, `circuits diff`, and the page of a run."""

import json
import re

import pytest
from typer.testing import CliRunner

from circuits.cli.app import app
from circuits.cli.drawing import FORMATS as OFFERED
from graphs import CircuitGraph, formats
from patching.scores import Scores

QUICK = ("--n", "6", "--top", "40")


def cli(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that differ by their seed."""
    home = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        done = cli("discover", "ioi", *QUICK, "--seed", seed, "--out", home / f"{seed}")
        assert done.exit_code == 0, done.stderr
    return home / "0", home / "1"


def embedded(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(found[1])


def test_a_picture_is_drawn_as_it_is_asked_for(runs, tmp_path):
    target = tmp_path / "circuit.svg"
    asked = ("--width", 6.5, "--caption", "Mine", "--highlight", "a3.h0", "--font", "Some Font")
    done = cli("show", runs[0], "-o", target, *asked)
    assert done.exit_code == 0, done.stderr
    svg = target.read_text(encoding="utf-8")
    assert 'width="6.5in"' in svg
    assert ">Mine</text>" in svg
    assert 'font-family="Some Font,' in svg
    assert 'opacity="0.2"' in svg
    changed = tmp_path / "changed.svg"
    assert cli("diff", *runs, "-o", changed, "--width", 5).exit_code == 0
    assert 'width="5in"' in changed.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("-o", "x.json", "--width", 5), "json is written; name a picture with -o"),
        (("--dpi", 300), "nothing is drawn; name a picture with -o"),
        (("-o", "x.svg", "--width", 0), "width is 0.0; give inches, from 1 to 100"),
        (("-o", "x.svg", "--highlight", "a9.h9"), "'a9.h9' is not in this circuit"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused(runs, tmp_path, monkeypatch, given, told):
    monkeypatch.chdir(tmp_path)
    done = cli("show", runs[0], *given)
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())
    assert not [*tmp_path.iterdir()]


def test_the_page_of_a_run_has_its_prompts_and_the_faithfulness_of_its_strongest_edges(runs):
    data = embedded((runs[0] / "circuit.html").read_text(encoding="utf-8"))
    assert len(data["prompts"]) == 6
    for prompt in data["prompts"]:
        s1, s2 = (prompt["clean"][prompt["positions"][name]] for name in ("S1", "S2"))
        assert s1.strip() == s2.strip()
        assert prompt["positions"]["END"] == len(prompt["clean"]) - 1
    edges = len(CircuitGraph.load(runs[0] / "circuit.json").edges)
    assert data["steps"][-1]["asked"] == edges
    assert data["steps"][-1]["faithfulness"] == data["faithfulness"]
    assert all(-2 < step["faithfulness"] < 2 for step in data["steps"])


def test_the_help_names_every_format():
    assert set(re.findall(r"[a-z]+", OFFERED.split(".")[0])) - {"or"} == set(formats.FORMATS)


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_run_is_shown_as_every_format(runs, tmp_path, name):
    form = formats.FORMATS[name]
    target = tmp_path / f"circuit{form.suffix}"
    done = cli("show", runs[0], "--format", name, "-o", target)
    assert done.exit_code == 0, done.stderr
    assert form.loses in done.stderr
    assert target.stat().st_size > 100
    if form.read is not None:
        assert CircuitGraph.load(target) == CircuitGraph.load(runs[0] / "circuit.json")


def test_the_page_shown_is_the_run_s_own(runs):
    shown = cli("show", runs[0], "--format", "html").stdout
    assert embedded(shown) == embedded((runs[0] / "circuit.html").read_text(encoding="utf-8"))


def test_a_mib_file_of_a_run_has_the_scores_of_all_edges(runs):
    scores = Scores.load(runs[0] / "scores.safetensors")
    document = json.loads(cli("show", runs[0], "--format", "mib").stdout)
    assert {name: edge["score"] for name, edge in document["edges"].items()} == {
        name: scores[name] for name in scores
    }
    inside = [name for name, edge in document["edges"].items() if edge["in_graph"]]
    assert set(inside) == set(CircuitGraph.load(runs[0] / "circuit.json").edges)


def test_diff_prints_and_draws_what_changed(runs, tmp_path):
    left, right = (CircuitGraph.load(run / "circuit.json") for run in runs)
    done = cli("diff", *runs, "-o", tmp_path / "diff.svg")
    assert done.exit_code == 0, done.stderr
    found = left.diff(right)
    assert found.describe() in " ".join(done.stdout.split())
    for part in (found.removed, found.added):
        for name in part.ranked()[:10]:
            assert f"{part[name]:+.4f}" in done.stdout
    picture = (tmp_path / "diff.svg").read_text(encoding="utf-8")
    for text in ("only left", "only right"):
        assert text in picture


def test_diff_of_a_run_with_itself_is_empty(runs):
    text = cli("diff", runs[0], runs[0] / "circuit.json").stdout
    assert "0 only left, 0 only right" in " ".join(text.split())
    assert "strongest" not in text


def damaged(document):
    """Files that are no circuit, by name: what is in them, and what is said of them."""
    edge = document["edges"][0]
    back = edge | {"source": "m3", "target": "m0", "key": ""}
    text = json.dumps(document)

    def changed(**parts):
        return json.dumps(document | parts)

    return {
        "picture.json": (b"\x89PNG\r\n", "is not valid JSON"),
        "newer.json": (changed(schema_version="2.0"), "this program reads 1.x; use the version"),
        "nan.json": (text.replace(str(edge["score"]), "NaN", 1), "input should be a finite number"),
        "unknown.json": (changed(edges=[edge | {"target": "a9.h9"}]), "there is no node 'a9.h9'"),
        "cycle.json": (
            changed(edges=[*document["edges"], back]),
            "m0 does not come after m3",
        ),
        "truncated.json": (text[: len(text) // 2], "is not valid JSON"),
        "huge.json": (text + " " * 100_000, "is larger than 100,000 bytes"),
        "circuit.graphml": (text, "is not GraphML"),
        "circuit.yaml": (text, "unknown suffix '.yaml'"),
    }


def test_damaged_files_give_one_error_and_no_picture(runs, tmp_path, monkeypatch):
    from graphs import files

    monkeypatch.setattr(files.read_bytes, "__defaults__", (100_000, "save less"))
    document = json.loads((runs[0] / "circuit.json").read_text(encoding="utf-8"))
    for name, (content, told) in damaged(document).items():
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        for command in (["show", path], ["show", path, "-o", tmp_path / "circuit.html"]):
            done = cli(*command)
            assert done.exit_code == 2, name
            assert done.stderr.startswith("circuits: "), name
            assert told in done.stderr
            assert done.stdout == ""
    assert not (tmp_path / "circuit.html").exists()


def test_diff_refuses_what_is_no_circuit_and_writes_nothing(runs, tmp_path):
    done = cli("diff", runs[0], tmp_path / "nothing", "-o", tmp_path / "diff.svg")
    assert done.exit_code == 2
    assert "there is no run or circuit at" in done.stderr
    assert not (tmp_path / "diff.svg").exists()
    assert cli("diff", *runs, "-o", tmp_path / "diff.gif").exit_code == 2
