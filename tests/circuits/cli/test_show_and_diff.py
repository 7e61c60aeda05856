"""`circuits show --format`, `circuits diff`, and the page of a run."""

import json
import re

import pytest
from typer.testing import CliRunner

from circuits.cli.app import FORMATS as OFFERED
from circuits.cli.app import app
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


def test_the_page_of_a_run_has_its_prompts_and_the_faithfulness_of_its_strongest_edges(runs):
    data = embedded((runs[0] / "circuit.html").read_text(encoding="utf-8"))
    assert len(data["prompts"]) == 6
    for prompt in data["prompts"]:
        s1, s2 = (prompt["tokens"][prompt["positions"][name]] for name in ("S1", "S2"))
        assert s1.strip() == s2.strip()
        assert prompt["positions"]["END"] == len(prompt["tokens"]) - 1
    edges = len(CircuitGraph.load(runs[0] / "circuit.json").edges)
    sizes = [size for size, _ in data["curve"]]
    assert sizes == [size for size in (5, 10, 20, 50, 80) if size < edges]
    assert all(-1 < share < 2 for _, share in data["curve"])
    assert data["curve"][-1][1] != data["faithfulness"]


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


def test_diff_refuses_what_is_no_circuit_and_writes_nothing(runs, tmp_path):
    done = cli("diff", runs[0], tmp_path / "nothing", "-o", tmp_path / "diff.svg")
    assert done.exit_code == 2
    assert "there is no run or circuit at" in done.stderr
    assert not (tmp_path / "diff.svg").exists()
    assert cli("diff", *runs, "-o", tmp_path / "diff.gif").exit_code == 2
