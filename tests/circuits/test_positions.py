"""Circuits at positions, from scores to files: on a model whose crossing edge is planted.

The planted model adds two digits. Where the corruption changes the first one, the way to the answer
is known token by token, and one head carries it from there to the end.
"""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.evaluation.curves import plain_plan, plan
from patching.placed import PlacedEdges, plain_cost, whole_cost
from patching.places import pair_sizes, place_sizes
from tasks.errors import MethodError, SiteError
from tests import planted

DIGIT, END = 1, 4
HEAD, _ = planted.HEADS
CROSSING = f"{HEAD}@{DIGIT}->{HEAD}@{END}<v>"
WAY = {
    f"input@{DIGIT}->m0@{DIGIT}",
    f"m0@{DIGIT}->m1@{DIGIT}",
    f"m1@{DIGIT}->{HEAD}@{DIGIT}<v>",
    CROSSING,
    f"{HEAD}@{END}->m4@{END}",
    f"m4@{END}->logits@{END}",
}


@pytest.fixture(scope="module")
def model():
    return planted.opened()


@pytest.fixture(scope="module")
def pairs():
    return planted.pairs(16)


@pytest.mark.parametrize("method", ["secant", "activation"])
def test_the_planted_crossing_edge_is_found_and_nothing_else(model, pairs, method):
    found = circuits.score(model, pairs, method, level="placed", positions="token")
    least = 0.02 * np.abs(found.values).max()
    strong = {
        name for name, value in zip(found.names, found.values, strict=True) if abs(value) > least
    }
    assert strong == WAY


def test_the_way_alone_is_the_whole_answer_and_needs_its_crossing_edge(model, pairs):
    graph = circuits.discover(pairs, model, positions="all", top=2)
    assert set(graph.edges) >= WAY
    cost = 5 / 5 + 1 / 15
    assert cost <= graph.info.options["cost"] <= 2
    way = graph.top(len(WAY))
    assert set(way.edges) == WAY
    assert circuits.evaluate(way, model, pairs).faithfulness == pytest.approx(1, abs=0.02)
    without = [name for name in WAY if name != CROSSING]
    assert len(PlacedEdges.of(without, model.anatomy, range(5)).connected()) == 0


def test_the_plain_circuits_stand_on_the_axis_of_cost(model, pairs):
    scores = circuits.score(model, pairs, level="placed", positions="token")
    sizes = (0.01, 0.05, 0.3, 1.0)
    placed, plain = plan(scores, "absolute", sizes), plain_plan(scores, sizes=sizes)
    layout = placed.circuits[0].layout
    shares = place_sizes(range(5), pairs), pair_sizes(range(5), pairs)
    for size, one, other in zip(sizes, placed.circuits, plain.circuits, strict=True):
        budget = size * whole_cost(layout) + 1e-6
        assert one.cost(*shares) <= budget
        assert plain_cost(other) <= budget
    edges = circuits.score(model, pairs, "secant")
    ranked = [edges.names[i] for i in edges.order()[: len(plain.circuits[1])]]
    assert {edge.name for edge in plain.circuits[1]} <= set(ranked) | set(edges.names)
    assert len(plain.circuits[-1]) > len(plain.circuits[0])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The planted model, a file of sums, and a run at positions."""
    home = tmp_path_factory.mktemp("positions")
    planted.build().save_pretrained(home / "model")
    planted.tokenizer().save_pretrained(home / "model")
    pairs = planted.pairs(40)
    rows = zip(pairs.clean, pairs.corrupted, pairs.answer, pairs.counterfactual, strict=True)
    keys = ("clean", "corrupted", "answer", "counterfactual")
    lines = [json.dumps(dict(zip(keys, map(np.ndarray.tolist, row), strict=True))) for row in rows]
    (home / "sums.jsonl").write_text("\n".join(lines), encoding="utf-8")
    ask = ["--model", home / "model", "--n", 12, "--positions", "all", "--top", 3]
    done = cli("discover", home / "sums.jsonl", *ask, "--out", home / "run")
    assert done.exit_code == 0, done.stderr
    assert "plain edges" in done.stdout
    return home


def cli(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_run_at_positions_is_drawn_with_tokens_and_exported_with_them(home, tmp_path):
    graph = circuits.CircuitGraph.load(home / "run" / "circuit.json")
    assert set(graph.edges) >= WAY
    picture = (home / "run" / "circuit.svg").read_text()
    token = graph.info.options["places"][str(END)]
    assert token == "="
    assert f">{END} {token}</text>" in picture
    for suffix in ("graphml", "json"):
        graph.save(tmp_path / f"circuit.{suffix}")
        again = circuits.CircuitGraph.load(tmp_path / f"circuit.{suffix}")
        assert again.edges == graph.edges
    graph.save(tmp_path / "circuit.dot")
    assert CROSSING.split("->")[0] in (tmp_path / "circuit.dot").read_text()


def test_a_run_at_positions_is_evaluated_beside_plain_circuits(home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    done = cli("evaluate", home / "run", "--n", 12)
    assert done.exit_code == 0, done.stderr
    told = json.loads((home / "run" / "evaluation.json").read_text())
    assert told["faithfulness"] == pytest.approx(1, abs=0.02)
    assert {curve["name"] for curve in told["curves"]} == {"secant", "random", "plain"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--positions", "nmed"], "did you mean 'named'"),
        (["--positions", "all", "--nodes", "neurons"], "between heads and whole MLPs"),
        (["--positions", "all", "--level", "node"], "between heads and whole MLPs"),
        (["--positions", "all", "--select", "greedy"], "that a budget pays for"),
        (["--positions", "all", "--method", "secant,ig"], "that a budget pays for"),
    ],
)
def test_what_cannot_be_at_positions_is_refused(options, words):
    done = cli("discover", "ioi", *options)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split())


def test_prompts_without_such_positions_are_refused(model, pairs):
    from dataclasses import replace

    with pytest.raises(SiteError, match="name no positions"):
        circuits.discover(replace(pairs, positions={}), model, positions="named")
    with pytest.raises(MethodError, match="needs scores at places"):
        from circuits.selection.placed import circuit_at_places

        circuit_at_places(circuits.score(model, pairs), model, pairs, 3)
