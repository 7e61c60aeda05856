"""How much of a circuit is the draw: clusters, consensus, groups of prompts, other tasks.

The planted model adds two digits, and each digit has a way of its own to the answer. Questions
whose corruption changes the first and those whose changes the second have different circuits.
"""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.config import Config
from circuits.discover import run
from circuits.evaluate import edges_of
from circuits.evaluation.outcomes import measure
from circuits.held_out.clustered_run import clustered
from circuits.held_out.clusters import clusters
from circuits.held_out.consensus import consensus
from circuits.held_out.terms import Terms
from circuits.held_out.transfer import transfer
from tasks.errors import RunError, TaskError
from tasks.files import read_file
from tests import planted

FIRST, SECOND = planted.HEADS
"""The heads that move the first and the second digit."""
WAY = 5
"""Edges of one digit's way: input, two MLPs, the head, the adding MLP, logits."""


def write_sums(path, kinds, n=24, seed=0):
    """A file of sums: the corruption changes the digit that each row's column says."""
    rng = np.random.default_rng(seed)
    rows, ids = set(), planted.NUMBERS
    while len(rows) < n:
        kind = kinds[len(rows) % len(kinds)]
        a, b, other = (int(x) for x in rng.integers(0, 10, 3))
        c, d = (other, b) if kind == "first" else (a, other)
        if (a, b) == (c, d):
            continue
        asked = [
            [planted.BOS, ids + x, planted.PLUS, ids + y, planted.EQUALS]
            for x, y in ((a, b), (c, d))
        ]
        row = {"clean": asked[0], "corrupted": asked[1], "answer": ids + a + b}
        row |= {"counterfactual": ids + c + d, "changed": kind}
        rows.add(json.dumps(row))
    path.write_text("\n".join(sorted(rows)) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The planted model, files of sums, and runs on some of them."""
    home = tmp_path_factory.mktemp("stability")
    planted.build().save_pretrained(home / "model")
    write_sums(home / "both.jsonl", ("first", "second"), n=40)
    for name in ("first", "second"):
        write_sums(home / f"{name}.jsonl", (name,), n=30)
    for name, seed in (("both", 0), ("both", 1), ("first", 0), ("second", 0)):
        path = str(home / f"{name}.jsonl")
        top = 20 if name == "both" else WAY
        config = Config(path, str(home / "model"), top=top, n=16, seed=seed, batch_size=8)
        run(config, home / f"{name}{seed}")
    return home


def cli(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def heads_of(graph):
    """The planted heads on the strongest way of a circuit."""
    return {name for name in (FIRST, SECOND) if name in graph.top(WAY).nodes}


def test_two_templates_with_different_planted_circuits_are_told_apart(home):
    config = Config(str(home / "both.jsonl"), None, top=20)
    model = planted.opened()
    pairs = read_file(home / "both.jsonl").pairs
    found = clusters(config, model, pairs[:24], pairs[24:], 2)
    changed = np.array(pairs.column("changed"))
    parts = [set(changed[:24][found.labels == k]) for k in range(2)]
    assert sorted(map(sorted, parts)) == [["first"], ["second"]]
    held = [set(changed[24:][found.assigned == k]) for k in range(2)]
    assert held == parts
    wanted = {"first": {FIRST}, "second": {SECOND}}
    assert [heads_of(graph) for graph in found.graphs] == [wanted[kind.pop()] for kind in parts]
    rows = dict(found.columns["changed"])
    assert sorted(rows) == ["first", "second"]
    assert all(0 in counts for counts in rows.values())


def test_the_gain_is_that_of_every_prompts_own_circuit(home):
    config = Config(str(home / "both.jsonl"), None, top=4)
    model = planted.opened()
    pairs = read_file(home / "both.jsonl").pairs
    used, others = pairs[:24], pairs[24:]
    found = clusters(config, model, used, others, 2)
    outcomes = measure(model, others, [edges_of(g) for g in (found.every, *found.graphs)])
    own = [outcomes.circuits[1 + k][i] for i, k in enumerate(found.assigned)]
    span = outcomes.full.mean() - outcomes.empty.mean()
    expected = (np.mean(own) - outcomes.circuits[0].mean()) / span
    assert found.gain == pytest.approx(expected, abs=1e-6)
    assert found.interval[0] <= found.gain <= found.interval[1]
    assert len(found.random) == 3
    assert ("worth it" in found.rows()["gain of one for each"]) == found.worth_it


def test_clusters_are_written_into_the_run_and_not_computed_twice(home, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    where = tmp_path / "run"
    ask = ["discover", home / "both.jsonl", "--model", home / "model", "--out", where]
    ask += ["--n", 16, "--top", 20, "--clusters", 2]
    first = cli(*ask)
    assert first.exit_code == 0, first.stderr
    assert "gain of one for each" in first.stdout
    told = json.loads((where / "clusters.json").read_text())
    assert (told["kind"], told["clusters"]) == ("circuits clusters", 2)
    again = cli(*ask)
    assert again.exit_code == 0, again.stderr
    assert "made before" in again.stdout
    for number in (1, 2):
        graph = circuits.CircuitGraph.load(where / f"cluster-{number}.json")
        assert len(heads_of(graph)) == 1
    clustered(where, 3, Terms(n=10))
    assert (where / "cluster-3.json").is_file()
    assert cli(*ask).exit_code == 0
    assert not (where / "cluster-3.json").exists()


@pytest.mark.parametrize(("k", "words"), [(1, "give at least 2"), (17, "16 prompts to be grouped")])
def test_clusters_that_cannot_be_are_refused_before_anything_is_computed(home, tmp_path, k, words):
    out = tmp_path / "none"
    ask = ["--model", home / "model", "--n", 16, "--clusters", k, "--out", out]
    result = cli("discover", home / "both.jsonl", *ask)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not out.exists()


def test_prompts_that_score_alike_are_not_told_apart(home):
    model = planted.opened()
    pairs = read_file(home / "first.jsonl").pairs
    same = pairs[[0] * 6]
    config = Config(str(home / "first.jsonl"), None, top=20)
    with pytest.raises(RunError, match="too similar scores for 2 clusters"):
        clusters(config, model, same, pairs[1:9], 2)


def test_a_consensus_holds_what_most_runs_hold(home):
    folders = [home / name for name in ("both0", "both1")]
    found = consensus(folders, Terms(n=20), 1.0)
    mine = [set(circuits.CircuitGraph.load(f / "circuit.json").edges) for f in folders]
    assert set(found.circuit.edges) <= mine[0] & mine[1]
    assert found.circuit.prune() == found.circuit
    for name, share in found.shares.items():
        assert share == sum(name in edges for edges in mine) / 2
    assert found.overlap == pytest.approx(len(mine[0] & mine[1]) / len(mine[0] | mine[1]))
    model = planted.opened()
    assert found.circuit.info.check_model(model.anatomy.shape) is None
    gain, (low, high) = found.gain()
    shares = found.outcomes.faithfulness
    assert gain == pytest.approx(shares[0] - shares[1:3].mean())
    assert low <= gain <= high
    assert {FIRST, SECOND} <= set(found.circuit.nodes)


def test_the_command_consensus_writes_a_circuit_that_can_be_tested(home, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "agreed"
    result = cli("consensus", home / "both0", home / "both1", "--n", 20, "--out", out)
    assert result.exit_code == 0, result.stderr
    for words in ("edges in any run", "overlap of two runs", "of equal size", "gain"):
        assert words in result.stdout
    told = json.loads((out / "consensus.json").read_text())
    assert told["kind"] == "circuits consensus"
    assert len(told["runs_of_equal_size"]) == 2
    graph = circuits.CircuitGraph.load(out / "circuit.json")
    assert set(graph.edges) <= set(told["shares"])
    assert cli("consensus", home / "both0", home / "both1", "--out", out).exit_code == 2


def test_runs_of_different_models_or_tasks_have_no_consensus(home, tmp_path):
    other = shutil.copytree(home / "both1", tmp_path / "other")
    record = json.loads((other / "run.json").read_text())
    record["model"]["hash"] = "0" * 64
    (other / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="different models"):
        consensus([home / "both0", other], Terms())
    with pytest.raises(RunError, match="different tasks"):
        consensus([home / "both0", home / "first0"], Terms())
    with pytest.raises(RunError, match="at least 2 runs, given 1"):
        consensus([home / "both0"], Terms())
    with pytest.raises(RunError, match="give a share"):
        consensus([home / "both0", home / "both1"], Terms(), 0)
    with pytest.raises(RunError, match="different models"):
        transfer([home / "both0", other], [str(home / "first.jsonl")], Terms())


def test_compare_by_a_column_of_the_file(home, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    runs, out = [home / "both0", home / "both1"], tmp_path / "compared"
    result = cli("compare", *runs, "--n", 20, "--by", "changed", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "faithfulness (%) by changed" in result.stdout
    told = json.loads((out / "comparison.json").read_text())
    parts = told["breakdown"]["parts"]
    assert {part["value"] for part in parts} == {"first", "second"}
    assert sum(part["prompts"] for part in parts) == told["prompts"]["n"]
    wrong = cli("compare", *runs, "--n", 20, "--by", "chnged")
    assert wrong.exit_code == 2
    assert "did you mean 'changed'" in wrong.stderr


def test_the_circuit_of_one_task_does_not_carry_the_other(home, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    files = [str(home / f"{name}.jsonl") for name in ("first", "second")]
    found = transfer([home / "first0", home / "second0"], files, Terms(n=10))
    matrix = np.array([each.faithfulness for each in found.outcomes]).T
    assert (np.diag(matrix) > 0.9).all()
    assert (matrix[~np.eye(2, dtype=bool)] < 0.2).all()
    out = tmp_path / "moved"
    result = cli("compare", home / "first0", "--on", ",".join(files), "--n", 10, "--out", out)
    assert result.exit_code == 0, result.stderr
    told = json.loads((out / "comparison.json").read_text())
    assert [column["task"] for column in told["tasks"]] == files
    for wrong in ("ioi,ioi", "", "no_such_task"):
        assert cli("compare", home / "first0", "--on", wrong).exit_code == 2
    assert cli("compare", home / "first0", "--on", files[0], "--by", "length").exit_code == 2


def test_columns_come_from_the_file_and_stay_with_their_rows(home):
    pairs = read_file(home / "both.jsonl").pairs
    assert set(pairs.column("changed")) == {"first", "second"}
    assert pairs[[3, 1]].column("changed") == tuple(pairs.column("changed")[i] for i in (3, 1))
    assert set(pairs.column("length")) == {"5 tokens"}
    with pytest.raises(TaskError, match="unknown column of these prompts 'template'"):
        pairs.column("template")
