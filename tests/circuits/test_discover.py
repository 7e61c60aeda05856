"""Discovery from end to end on the embedded model, in Python."""

import numpy as np
import pytest

import circuits
from circuits.evaluate import edges_of
from patching.circuit_run import run_circuits
from patching.nodes.edges import edges
from tasks.errors import SiteError, TaskError


@pytest.fixture(scope="module")
def model():
    return circuits.load_model("nano")


@pytest.fixture(scope="module")
def pairs(model):
    return circuits.load_task("ioi").pairs(model.tokenizer, n=64, seed=0)


@pytest.fixture(scope="module")
def graph(model):
    return circuits.discover("ioi", model=model, top=100, n=64, seed=0)


def test_the_circuit_carries_the_answer_and_random_ones_do_not(model, pairs, graph):
    report = circuits.evaluate(graph, model, pairs)
    assert report.faithfulness >= 0.85
    every = [edge.name for edge in edges(model.anatomy)]
    rng = np.random.default_rng(0)
    drawn = [rng.choice(every, size=len(graph.edges), replace=False) for _ in range(20)]
    found = run_circuits(model, pairs, drawn, report.metric).mean(axis=1)
    shares = (found - report.empty) / (report.full - report.empty)
    assert shares.mean() < 0.2


def test_every_edge_recovers_everything_and_none_nothing(model, pairs):
    whole = circuits.discover(pairs[:4], model, top=10**6)
    assert circuits.evaluate(whole, model, pairs[:4]).faithfulness == pytest.approx(1, abs=1e-4)
    none = whole.top(0)
    assert circuits.evaluate(none, model, pairs[:4]).faithfulness == pytest.approx(0, abs=1e-4)


def test_a_name_and_an_opened_model_and_its_prompts_give_the_same_circuit(model, pairs, graph):
    again = circuits.discover(pairs, model, top=100)
    assert again.edges == graph.edges
    assert [again[name] for name in again] == [graph[name] for name in graph]


def test_the_circuit_says_where_it_comes_from(model, pairs):
    graph = circuits.discover("ioi", model="nano", top=10, n=4, seed=7, method="ig", steps=2)
    info = graph.info
    assert (info.task, info.model, info.seed, info.prompts) == ("ioi", "nano", 7, 4)
    assert (info.method, info.options["steps"], info.model_hash) == ("ig", 2, model.hash)


def test_a_circuit_of_nodes_keeps_the_edges_between_them(model, pairs):
    graph = circuits.discover(pairs[:8], model, level="node", top=10)
    assert len(graph) == 10
    assert not graph.edges
    kept = edges_of(graph)
    ends = {end.split("<")[0] for name in kept for end in name.split("->")}
    assert ends <= {*graph.nodes, "logits"}
    assert circuits.evaluate(graph, model, pairs[:8]).n == 8


def test_progress_is_told(pairs, model):
    told = []
    circuits.discover(pairs[:6], model, batch_size=2, progress=lambda *step: told.append(step))
    assert [(done, total) for done, total, _ in told] == [(0, 6), (2, 6), (4, 6), (6, 6)]


def test_a_task_in_words_needs_a_tokenizer(shared):
    path = shared / "models" / "gpt-nano-sort"
    with pytest.raises(TaskError, match="no tokenizer; give it one"):
        circuits.discover("ioi", model=path)


def test_a_circuit_of_another_model_is_refused(model, pairs, shared):
    other = circuits.load_model(shared / "models" / "stories260K")
    graph = circuits.discover(pairs[:2], model, top=20)
    with pytest.raises(SiteError, match="another model"):
        circuits.evaluate(graph, other, pairs[:2])


def test_scores_of_nodes_say_what_auto_took(model, pairs):
    from circuits.config import Config
    from circuits.discover import measure

    scored = measure(Config(None, None, level="node", n=4), model, pairs[:4])
    assert scored.scores.method == "auto"
    assert "exactly" in scored.notes[0]
    assert "block passes per prompt" in scored.notes[0]
    edges = measure(Config(None, None, n=4), model, pairs[:4])
    assert (edges.scores.method, edges.notes) == ("secant", ())
