"""The commands evaluate and compare: a run's circuit on prompts that it was not found on."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from circuits.cli.app import app
from circuits.config import Config
from circuits.discover import run
from circuits.evaluation.outcomes import prompt_keys
from circuits.evaluation.unseen import held_out
from circuits.held_out.run import Run, carry_out
from circuits.held_out.terms import Terms
from circuits.prompts import prompts_of
from graphs import CircuitGraph
from tasks.errors import ModelError, RunError
from tests.known import interchange


def write_prompts(path, count, seed=0):
    pairs = interchange.pairs(count, seed)
    rows = zip(pairs.clean, pairs.corrupted, pairs.answer, pairs.counterfactual, strict=True)
    keys = ("clean", "corrupted", "answer", "counterfactual")
    lines = {json.dumps(dict(zip(keys, map(np.ndarray.tolist, row), strict=True))) for row in rows}
    path.write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")
    return len(lines)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with prompts, and two runs on twelve of them."""
    home = tmp_path_factory.mktemp("evaluation")
    write_prompts(home / "sums.jsonl", 40)
    for method in ("secant", "attribution"):
        config = Config(
            str(home / "sums.jsonl"), str(interchange.SHIPPED), method, top=8, n=12, batch_size=8
        )
        run(config, home / method)
    return home


@pytest.fixture
def done(home, tmp_path):
    """A copy of the first run, to write into."""
    return shutil.copytree(home / "secant", tmp_path / "secant")


def cli(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_evaluate_prints_tables_and_completes_the_run(done, home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = cli("evaluate", done, "--n", 20, "--reference", home / "attribution")
    assert result.exit_code == 0, result.stderr
    for words in ("faithfulness", "random circuits", "minimality", "AUROC", "CPR", "log CMD"):
        assert words in result.stdout
    report = json.loads((done / "evaluation.json").read_text())
    assert report["kind"] == "circuits evaluation"
    assert report["n"] == report["prompts"]["n"] == 20
    assert report["faithfulness"] > 0.9
    assert report["interval"][0] <= report["faithfulness"] <= report["interval"][1]
    assert {curve["name"] for curve in report["curves"]} == {"secant", "random"}
    assert report["minimality"]["share_below_noise"] == 0
    mine, theirs = (set(CircuitGraph.load(path)) for path in (done, home / "attribution"))
    assert report["agreement"]["both"] == len(mine & theirs)
    assert report["agreement"]["jaccard"] == pytest.approx(len(mine & theirs) / len(mine | theirs))
    assert (done / "curves.svg").read_text().startswith("<?xml")
    assert not [path for path in done.iterdir() if path.name.startswith(".")]


def test_evaluating_twice_gives_the_same_numbers_and_picture(done):
    found = []
    for _ in range(2):
        carry_out(done, Terms(n=10))
        report = json.loads((done / "evaluation.json").read_text())
        found.append((report | {"created": ""}, (done / "curves.svg").read_bytes()))
    assert found[0] == found[1]


def test_no_prompt_of_the_discovery_is_used(home):
    first = Run.read(home / "secant")
    config = Config(**first.record.config)
    model = interchange.opened()
    used = prompts_of(config, model)
    assert used.digest == first.record.prompts.sha256
    fresh = held_out(config, model, [used], 64)
    assert not set(prompt_keys(fresh)) & set(prompt_keys(used))
    lines = (home / "sums.jsonl").read_text().splitlines()
    assert len(fresh) == len(lines) - 12


def test_prompts_that_were_used_are_refused(done, home):
    with pytest.raises(RunError, match="12 of"):
        carry_out(done, Terms(prompts=home / "sums.jsonl"))
    every = shutil.copy(home / "sums.jsonl", done.parent / "all.jsonl")
    config = Config(str(every), str(interchange.SHIPPED), "secant", top=8)
    run(config, done.parent / "all")
    with pytest.raises(RunError, match="every prompt"):
        carry_out(done.parent / "all", Terms())
    assert not (done.parent / "all" / "evaluation.json").exists()


def test_prompts_that_cannot_be_drawn_again_are_noticed(done):
    record = json.loads((done / "run.json").read_text())
    record["prompts"]["sha256"] = "0" * 64
    (done / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="come out differently"):
        carry_out(done, Terms())


def test_another_model_is_refused_unless_allowed(done, tmp_path):
    other = interchange.train(steps=1)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="--allow-other-model"):
        carry_out(done, Terms(n=8), model=str(tmp_path / "other"))
    assert not (done / "evaluation.json").exists()
    result = cli("evaluate", done, "--model", tmp_path / "other", "--n", 8, "--allow-other-model")
    assert result.exit_code == 0, result.stderr
    report = json.loads((done / "evaluation.json").read_text())
    assert report["model_hash"] != json.loads((done / "run.json").read_text())["model"]["hash"]
    if report["undefined"]:
        assert report["curves"] == []
        assert "does not distinguish the two" in result.stdout


def test_compare_holds_runs_against_the_first(home, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    result = cli(
        "compare", home / "secant", home / "attribution", "--n", 16, "--out", tmp_path / "both"
    )
    assert result.exit_code == 0, result.stderr
    rows = result.stdout.splitlines()
    assert rows[1].split()[0] == "secant"
    assert rows[2].split()[0] == "attribution"
    data = json.loads((tmp_path / "both" / "comparison.json").read_text())
    first, second = data["runs"]
    assert first["gaps_to_first"]["cpr"] == [0.0, [0.0, 0.0]]
    gap = second["curves"][0]["areas"]["cpr"] - first["curves"][0]["areas"]["cpr"]
    assert second["gaps_to_first"]["cpr"][0] == pytest.approx(gap)
    assert (tmp_path / "both" / "curves.svg").exists()


def test_compare_replaces_a_comparison_only_when_asked_and_nothing_else_at_all(home, tmp_path):
    runs, out = (home / "secant", home / "attribution"), tmp_path / "both"
    asked = ["compare", *runs, "--n", 4, "--out", out]
    assert cli(*asked).exit_code == 0
    again = cli(*asked)
    assert again.exit_code == 2
    assert "holds a comparison already; choose another --out, or replace it" in again.stderr
    assert cli(*asked, "--force").exit_code == 0
    for foreign in (home / "secant", tmp_path):
        before = sorted(path.name for path in foreign.iterdir())
        refused = cli(*asked[:-1], foreign, "--force")
        assert refused.exit_code == 2
        assert "something that is not a comparison" in refused.stderr
        assert sorted(path.name for path in foreign.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "gone"], "gone is not the folder of a finished run"),
        (["compare", "gone", "too"], "gone is not the folder of a finished run"),
        (["evaluate", "gone", "--n", "1"], "give at least 2 prompts"),
    ],
)
def test_mistakes_are_one_message_and_exit_2(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    result = cli(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_runs_that_cannot_be_compared(home, done):
    result = cli("compare", home / "secant")
    assert result.exit_code == 2
    assert "give at least two runs" in result.stderr
    record = json.loads((done / "run.json").read_text())
    record["model"]["hash"], record["prompts"]["task"] = "0" * 64, "another"
    record["config"]["bos"] = True
    (done / "run.json").write_text(json.dumps(record))
    result = cli("compare", home / "secant", done)
    assert "different tasks" in result.stderr
    assert "different models" in result.stderr
    assert "different ways of putting texts (--bos, --chat): begun as the tok" in result.stderr
