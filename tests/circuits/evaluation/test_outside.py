"""What stands in outside a circuit, from the command line: ablations, files of means, refusals."""

import json
import shutil
from functools import cache

import numpy as np
import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.config import Config
from circuits.discover import run
from circuits.evaluation.running import AVERAGED, Running
from circuits.held_out.terms import Terms
from graphs import CircuitGraph
from patching.ablation.kinds import OUTSIDE, Ablation
from patching.ablation.means import MeanActivations
from patching.ablation.run import run_ablated
from patching.nodes.layout import senders
from tasks.errors import MethodError
from tests.known import interchange


def cli(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_prompts(path, count, seed=0, cut=0):
    pairs = interchange.pairs(count, seed)
    columns = (pairs.clean[:, cut:], pairs.corrupted[:, cut:], pairs.answer, pairs.counterfactual)
    keys = ("clean", "corrupted", "answer", "counterfactual")
    rows = {
        json.dumps(dict(zip(keys, map(np.ndarray.tolist, row), strict=True)))
        for row in zip(*columns, strict=True)
    }
    path.write_text("\n".join(sorted(rows)) + "\n", encoding="utf-8")
    return path


@cache
def graph():
    return circuits.discover(interchange.pairs(16), interchange.opened(), top=8)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two runs on the same twelve prompts, tested under different ablations."""
    home = tmp_path_factory.mktemp("outside")
    source = str(write_prompts(home / "sums.jsonl", 40))
    for name in ("corrupted", "mean"):
        config = Config(source, str(interchange.SHIPPED), top=8, n=12, ablation=name)
        run(config, home / name)
    return home


@pytest.fixture
def done(home, tmp_path):
    """A copy of the first run, to write into."""
    return shutil.copytree(home / "corrupted", tmp_path / "run")


@pytest.mark.parametrize("ablation", OUTSIDE)
def test_an_evaluation_has_the_ablation_outside_and_says_so(ablation):
    model, pairs = interchange.opened(), interchange.pairs(12, 5)
    found = circuits.evaluate(graph(), model, pairs, ablation=ablation)
    everything = [site.name for site in senders(model.anatomy)]
    empty = run_ablated(model, pairs, everything, ablation)
    assert found.empty == pytest.approx(empty.mean(), abs=1e-4)
    name = Ablation(ablation).name
    assert found.ablation == found.to_json()["ablation"] == name
    assert found.noted(graph()).info.metrics.ablation == name
    assert ("corrupted" if ablation == "corrupted" else ablation) in str(found)


@pytest.mark.parametrize("ablation", OUTSIDE)
def test_discover_records_the_ablation_and_evaluate_goes_on_with_it(home, tmp_path, ablation):
    folder, model = tmp_path / "run", interchange.SHIPPED
    asked = ("--model", model, "--n", 12, "--top", 8, "--ablation", ablation, "--out", folder)
    done = cli("discover", home / "sums.jsonl", *asked)
    assert done.exit_code == 0, done.stderr
    record, name = json.loads((folder / "run.json").read_text()), Ablation(ablation).name
    assert record["config"]["ablation"] == record["evaluation"]["ablation"] == name
    assert CircuitGraph.load(folder / "circuit.json").info.metrics.ablation == name
    assert cli("evaluate", folder, "--n", 8).exit_code == 0
    report = json.loads((folder / "evaluation.json").read_text())
    assert report["ablation"] == name
    assert (report["means"] is not None) == (ablation in AVERAGED)
    if report["means"]:
        assert report["means"]["sha256"] == report["prompts"]["sha256"]


def test_compare_needs_one_ablation(home, tmp_path):
    runs = (home / "corrupted", home / "mean")
    done = cli("compare", *runs)
    assert done.exit_code == 2
    assert "ablations (--ablation chooses one): corrupted, mean" in done.stderr
    done = cli(
        "compare",
        *runs,
        "--n",
        8,
        "--ablation",
        "zero",
        "--rediscoveries",
        2,
        "--out",
        tmp_path / "c",
    )
    assert done.exit_code == 0, done.stderr
    data = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert data["ablation"] == "zero"
    first, second = data["runs"]
    assert first["gaps_to_first"]["cpr"] == [0.0, [0.0, 0.0]]
    # Equal choices of equal prompts, redrawn alike: no gap in any draw.
    assert second["gaps_to_first"]["cmd"] == [0.0, [0.0, 0.0]]
    assert first["rediscoveries"]["times"] == second["rediscoveries"]["times"] == 2


def test_evaluate_discovers_again_where_asked(done):
    result = cli("evaluate", done, "--n", 10, "--rediscoveries", 3)
    assert result.exit_code == 0, result.stderr
    assert "stable edges" in result.stdout
    found = json.loads((done / "evaluation.json").read_text())["rediscoveries"]
    assert found["times"] == 3
    low, high = found["faithfulness"]["interval_over_both_draws"]
    assert low <= found["faithfulness"]["mean"] <= high
    assert all(0 <= share <= 1 for share in found["stability"].values())


def test_means_of_other_prompts_are_estimated_saved_and_used(done, home, tmp_path):
    others = write_prompts(tmp_path / "others.jsonl", 60, seed=9)
    shutil.copy(others, tmp_path / "sums.jsonl")
    file = tmp_path / "means.safetensors"
    asked = ("--ablation", "mean-by-position", "--model", interchange.SHIPPED, "--out", file)
    made = cli("means", tmp_path / "sums.jsonl", *asked)
    assert made.exit_code == 0, made.stderr
    means = MeanActivations.load(file)
    assert means.by == "position"
    result = cli("evaluate", done, "--n", 8, "--ablation", "mean-by-position", "--means", file)
    assert result.exit_code == 0, result.stderr
    told = json.loads((done / "evaluation.json").read_text())["means"]
    assert told == {"task": "sums", "n": means.origin.n, "sha256": means.origin.prompts}
    again = cli("means", tmp_path / "sums.jsonl", *asked)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert cli("means", tmp_path / "sums.jsonl", *asked, "--force").exit_code == 0


def test_means_of_another_task_or_length_are_refused(done, tmp_path):
    def refused(source):
        file = tmp_path / f"{source.stem}.safetensors"
        made = cli("means", source, "--model", interchange.SHIPPED, "--out", file)
        assert made.exit_code == 0, made.stderr
        result = cli("evaluate", done, "--n", 8, "--ablation", "mean", "--means", file)
        assert result.exit_code == 2
        assert not (done / "evaluation.json").exists()
        return result.stderr

    told = refused(write_prompts(tmp_path / "totals.jsonl", 20))
    assert "they are of task 'totals', these prompts of 'sums'" in told
    told = refused(write_prompts(tmp_path / "sums.jsonl", 20, cut=1))
    assert "they are of prompts of 4 tokens, these have 5" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ablation", "meen"], "did you mean 'mean'?"),
        (["--ablation", "mean_by_position"], "did you mean 'mean-by-position'?"),
        (["--ablation", "cama:1"], "use mean-by-token"),
        (["--ablation", "full-peek:1"], "cuts attention"),
        (["--ablation", "resample:x"], "whole number"),
        (["--ablation", "zero", "--means", "m"], "'zero' puts no means there"),
        (["--ablation", "mean", "--means", "gone"], "gone is not a file of means"),
        (["--rediscoveries", "1"], "give 0 for none, or at least 2"),
    ],
)
def test_what_cannot_stand_in_is_refused_before_work(done, home, monkeypatch, arguments, words):
    monkeypatch.setattr("circuits.models.load_model", None)
    for command in (["evaluate", done], ["compare", done, home / "corrupted"]):
        result = cli(*command, *arguments)
        assert result.exit_code == 2
        assert words in result.stderr
    assert not (done / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ioi", "--ablation", "zero"], "'zero' is not one of 'mean'"),
        (["iou"], "did you mean 'ioi'?"),
        (["ioi", "--out", "gone/means.safetensors"], "there is no folder"),
    ],
)
def test_means_that_cannot_be_made(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    result = cli("means", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_model_cannot_be_discovered_with_again(done, tmp_path):
    interchange.train(steps=1).save_pretrained(tmp_path / "other")
    asked = ("--model", tmp_path / "other", "--allow-other-model", "--n", 8, "--rediscoveries", 2)
    result = cli("evaluate", done, *asked)
    assert result.exit_code == 2
    assert "needs the model that it was made with" in result.stderr


def test_a_search_is_no_discovery(done):
    record = json.loads((done / "run.json").read_text())
    record["config"]["method"] = "af1"
    (done / "run.json").write_text(json.dumps(record))
    result = cli("evaluate", done)
    assert result.exit_code == 2
    assert "All-for-One search, which carries its own test" in result.stderr
    record["config"] = record["config"] | {"method": "secant", "colour": "red"}
    (done / "run.json").write_text(json.dumps(record))
    assert "does not know: colour" in cli("evaluate", done).stderr


def test_means_by_another_key_are_refused(tmp_path):
    model, pairs = interchange.opened(), interchange.pairs(8)
    Running(ablation="mean").settled(model, pairs).means.save(tmp_path / "means.safetensors")
    with pytest.raises(MethodError, match="needs means by position, and"):
        Terms(means=tmp_path / "means.safetensors").running("mean-by-position")
    with pytest.raises(MethodError, match="another model"):
        Terms(means=tmp_path / "means.safetensors").running("mean").settled(
            interchange.opened().__class__.open(interchange.train(steps=1)), pairs
        )
