"""How many edges are enough: against running every size."""

import json

import numpy as np
import pytest

import circuits
from circuits.config import Config
from circuits.discover import run
from circuits.evaluate import edges_of
from circuits.evaluation.curves import at_counts
from circuits.evaluation.enough import GOOD, SHARES, enough, sizes_needed
from circuits.evaluation.outcomes import check_disjoint, measure
from circuits.prompts import prompts_of
from tasks.errors import MethodError


@pytest.fixture(scope="module")
def model():
    return circuits.load_model("nano")


@pytest.fixture(scope="module")
def pairs(model):
    return circuits.load_task("ioi").pairs(model.tokenizer, n=8, seed=0)


@pytest.fixture(scope="module")
def scores(model, pairs):
    return circuits.score(model, pairs)


def test_the_sizes_told_give_their_share_and_were_run_as_told(model, pairs, scores):
    found = sizes_needed(model, pairs, scores)
    assert [each.share for each in found] == list(SHARES)
    assert [each.count for each in found] == sorted(each.count for each in found)
    circuits_of = at_counts(scores, [each.count for each in found], absolute=True)
    shares = measure(model, pairs, list(circuits_of)).faithfulness
    for each, circuit, share in zip(found, circuits_of, shares, strict=True):
        assert each.kept == len(circuit) <= each.count
        assert each.faithfulness == pytest.approx(share, abs=1e-6)
        assert share >= each.share


def test_half_as_many_do_not_give_the_share(model, pairs, scores):
    """Every size at most half of the one told was passed in doubling, and did not reach it."""
    for each in sizes_needed(model, pairs, scores):
        sizes = [2**i for i in range(12) if 2 * 2**i <= each.count]
        below = measure(model, pairs, list(at_counts(scores, sizes, absolute=True))).faithfulness
        assert (below < each.share).all()


def test_the_summary_says_whether_the_circuit_is_enough(model, pairs, scores):
    for top, word in ((60, ": enough"), (4, ": not enough; --faithful 0.85 keeps")):
        graph = circuits.discover(pairs, model, top=top)
        found = enough(model, pairs, scores, graph, edges_of(graph))
        assert word in found.told
        assert found.enough == (found.faithfulness >= GOOD)
        assert json.loads(json.dumps(found.to_json()))["circuit"]["size"] == len(graph)


def test_a_share_chooses_the_smallest_size_that_gives_it(model, pairs, scores):
    graph = circuits.discover(pairs, model, faithful=0.85)
    (wanted,) = sizes_needed(model, pairs, scores, (0.85,))
    assert len(graph) == wanted.kept
    assert circuits.evaluate(graph, model, pairs).faithfulness >= 0.85


def test_top_counts_what_stays_connected(model, pairs):
    sizes = (8, 24, 40)
    assert all(len(circuits.discover(pairs, model, top=size)) >= size for size in sizes)
    plain = [
        len(circuits.discover(pairs, model, top=size, select="top:fill=false")) for size in sizes
    ]
    assert any(left < size for left, size in zip(plain, sizes, strict=True))


def test_a_run_tells_it_of_prompts_that_it_was_not_found_on(model, tmp_path, monkeypatch):
    asked = []
    plain = circuits.evaluation.enough.enough

    def noting(opened, fresh, *rest):
        asked.append(fresh)
        return plain(opened, fresh, *rest)

    monkeypatch.setattr("circuits.evaluation.enough.enough", noting)
    config = Config(task="ioi", n=8, top=60)
    record = run(config, tmp_path / "run")
    check_disjoint(prompts_of(config, model), asked[0])
    assert record.enough.prompts == asked[0].prompts == 8
    assert [each.share for each in record.enough.needed] == list(SHARES)
    assert record.enough.circuit.size == len(
        circuits.CircuitGraph.load(tmp_path / "run" / "circuit.json")
    )
    assert np.isfinite(record.enough.circuit.faithfulness)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"faithful": 1.2}, "faithful is 1.2; give the share"),
        ({"faithful": 0.85, "top": 5}, "choose one of them"),
        ({"faithful": 0.85, "select": "greedy"}, "take --select top"),
    ],
)
def test_a_share_that_chooses_nothing_is_refused_before_the_model_opens(how, said, monkeypatch):
    monkeypatch.setattr("circuits.models.load_model", None)
    with pytest.raises(MethodError, match=said):
        circuits.discover("ioi", **how)
