import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from tests.graphs.strategies import circuit, circuits


def test_a_path_is_as_strong_as_its_weakest_edge():
    graph = circuit(
        ("input->a0.h0<q>", 5.0),
        ("input->a0.h0<v>", -3.0),
        ("a0.h0->logits", 4.0),
        ("input->logits", 3.5),
    )
    paths = graph.paths(5)
    assert [path.strength for path in paths] == [4.0, 3.5, 3.0]
    assert paths[0].edges == ("input->a0.h0<q>", "a0.h0->logits")
    assert str(paths[0]) == "input -> a0.h0 -> logits"
    assert [len(path) for path in paths] == [2, 1, 2]


def test_ties_are_broken_by_the_next_weakest_edge():
    graph = circuit(
        ("input->m0", 1.0), ("m0->logits", 2.0), ("input->m1", 1.0), ("m1->logits", 3.0)
    )
    assert [path.nodes[1] for path in graph.paths()] == ["m1", "m0"]


def test_no_paths_where_nothing_connects():
    assert circuit(("input->m0", 1.0)).paths() == ()
    assert circuit(("input->logits", 1.0)).paths(0) == ()


@given(circuits(at=st.none()), st.integers(1, 30))
def test_paths_are_those_found_by_trying_all(graph, n):
    plain = graph.to_networkx()
    slow = []
    if {"input", "logits"} <= set(plain):
        for steps in nx.all_simple_edge_paths(plain, "input", "logits"):
            slow.append(sorted(abs(plain.edges[step]["score"]) for step in steps))
    slow.sort(key=lambda strengths: [-s for s in strengths] + [float("-inf")])
    found = graph.paths(n)
    assert [sorted(abs(graph[e]) for e in path.edges) for path in found] == slow[:n]
    assert len({path.edges for path in found}) == len(found)
