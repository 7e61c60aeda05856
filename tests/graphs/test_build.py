import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import by_threshold, from_scores, greedy, top_edges, top_nodes
from graphs.choose import keep
from patching.nodes.edges import edges
from patching.nodes.layout import nodes
from tasks.errors import FormatError, MethodError, SiteError
from tests.graphs.strategies import SMALL, edge_scores, scores_of

NAMES = [edge.name for edge in edges(SMALL)]


def scored(**values):
    """Scores over all edges of the small model, zero where not given (``__`` stands for ``->``)."""
    totals = np.zeros(len(NAMES))
    for name, value in values.items():
        totals[NAMES.index(name)] = value
    return scores_of(NAMES, totals, SMALL, count=1, clean=3.0, corrupted=-1.0, task="ioi")


def test_metadata_comes_from_the_scores():
    info = top_edges(scored(**{"input->logits": 1.0}), 1).info
    assert (info.task, info.method, info.metric, info.prompts) == (
        "ioi",
        "relevance",
        "logit_diff",
        1,
    )
    assert (info.metrics.full, info.metrics.empty, info.metrics.circuit) == (3.0, -1.0, None)
    assert (info.selection.requested, info.selection.kept, info.selection.considered) == (1, 1, 46)
    assert info.selection.left_out == 45


def test_requested_and_kept_differ_when_edges_lead_nowhere():
    scores = scored(**{"input->m0": 9.0, "a0.h0->m1": 8.0, "input->logits": 1.0})
    graph = top_edges(scores, 3)
    assert graph.edges == ("input->logits",)
    assert (graph.info.selection.chosen, graph.info.selection.kept) == (3, 1)


def test_fill_goes_on_until_enough_are_kept():
    scores = scored(**{"input->m0": 9.0, "m0->logits": 0.5, "input->logits": 1.0, "a0.h0->m1": 8.0})
    graph = top_edges(scores, 2, fill=True)
    assert graph.edges == ("input->m0", "input->logits", "m0->logits")
    assert (graph.info.selection.requested, graph.info.selection.chosen) == (2, 4)


def test_ties_go_to_the_edge_computed_first_however_the_names_are_listed():
    totals = np.ones(len(NAMES))
    straight = top_edges(scores_of(NAMES, totals, SMALL), 40)
    backwards = top_edges(scores_of(NAMES[::-1], totals, SMALL), 40)
    assert straight == backwards
    assert straight.info.selection.chosen == 40


def test_standard_errors_are_kept():
    totals = np.ones(len(NAMES))
    scores = scores_of(NAMES, totals, SMALL, count=4, squares=totals)
    found = top_edges(scores, len(NAMES)).scored_edges
    assert {item.standard_error for item in found} == set(map(float, scores.standard_error))


def test_greedy_grows_from_the_logits():
    scores = scored(
        **{
            "input->m0": 9.0,
            "m0->m1": 8.0,
            "m1->logits": 1.0,
            "input->logits": 2.0,
            "input->m1": 3.0,
        }
    )
    assert greedy(scores, 2).edges == ("input->logits",)
    assert set(greedy(scores, 3).edges) == {"input->logits"}
    assert set(greedy(scores, 4).edges) == {
        "input->m0", "m0->m1", "m1->logits", "input->logits"
    }  # fmt: skip


def test_node_scores_give_nodes_and_no_edges():
    names = [site.name for site in nodes(SMALL)[:-1]]
    graph = top_nodes(scores_of(names, [5, -4, 3, 2, 1, 0, 0], SMALL, level="node"), 3)
    assert graph.nodes == ("input", "a0.h0", "a0.h1", "logits")
    assert graph.edges == ()
    assert graph["a0.h0"] == -2.0
    assert len(graph) == 3


def test_scores_of_sites_that_are_no_nodes_are_refused():
    with pytest.raises(SiteError, match=r"'resid_pre\.0' is a site but not a node"):
        top_nodes(scores_of(["resid_pre.0"], [1.0], SMALL, level="site"), 1)


def test_neurons_with_positions_make_a_node_circuit():
    scores = scores_of(["m1.n3@S2", "m0.n1@-1"], [1.0, 2.0], SMALL, level="site")
    assert top_nodes(scores, 2).nodes == ("input", "m0.n1@-1", "m1.n3@S2", "logits")


def test_bad_requests():
    scores = scored(**{"input->logits": 1.0})
    with pytest.raises(FormatError, match="given -1"):
        top_edges(scores, -1)
    with pytest.raises(FormatError, match="did you mean 'greedy'"):
        from_scores(scores, 1, rule="gredy")
    with pytest.raises(MethodError, match="needs scores of nodes, given scores of edges"):
        top_nodes(scores, 1)
    with pytest.raises(MethodError, match="1 names have more than one score, first 'input->m0'"):
        top_edges(scores_of(["input->m0", "input->m0"], [1.0, 2.0], SMALL), 1)


@given(edge_scores(tied=True), st.integers(0, 60), st.booleans())
def test_every_edge_has_its_measured_score_and_none_is_invented(scores, n, absolute):
    for graph in (top_edges(scores, n, absolute), greedy(scores, n, absolute)):
        assert len(graph) <= n
        assert all(graph[name] == scores[name] for name in graph)
        assert graph.prune() == graph


@given(edge_scores(tied=True), st.integers(0, 60))
def test_top_is_top_by_definition(scores, n):
    order = [edge.name for edge in edges(scores.anatomy)]
    ranked = sorted(order, key=lambda name: (-abs(scores[name]), order.index(name)))
    everything = by_threshold(scores, 0.0)
    assert set(top_edges(scores, n).edges) == set(keep(everything, ranked[:n]).prune().edges)


@given(edge_scores(), st.integers(0, 60))
def test_fill_keeps_at_least_what_is_asked_for(scores, n):
    graph = top_edges(scores, n, fill=True)
    assert len(graph) >= min(n, len(scores))
    fewer = top_edges(scores, max(graph.info.selection.chosen - 1, 0))
    assert len(fewer) < n or graph.info.selection.chosen == n


@given(edge_scores(), st.floats(0, 6))
def test_threshold_is_threshold_by_definition(scores, least):
    strong = {name for name in scores if abs(scores[name]) >= least}
    graph = by_threshold(scores, least)
    assert set(graph.edges) <= strong
    assert graph.info.selection.chosen == len(strong)
    assert graph.edges == by_threshold(scores, 0.0).threshold(least).edges
