import copy
import pickle
import subprocess
import sys

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import CircuitGraph, CircuitInfo, ScoredEdge, ScoredNode
from patching.anatomy import Anatomy
from patching.nodes.edges import edges
from patching.nodes.layout import nodes
from patching.sites import INPUT, LOGITS, Edge, head, mlp, parse_edge
from tasks.errors import FormatError, SiteError
from tests.graphs.strategies import SMALL, circuit, circuits, node_circuits, with_metrics

CHAIN = [
    ("input->a0.h0<q>", 1.0),
    ("input->a0.h0<v>", -3.0),
    ("a0.h0->m1", 2.0),
    ("m1->logits", 4.0),
    ("input->logits", 0.5),
]


def test_edges_and_nodes_are_listed_in_order_of_computation():
    every = list(edges(SMALL))
    graph = CircuitGraph(CircuitInfo(SMALL), [ScoredEdge(e, 1.0) for e in reversed(every)])
    assert graph.edges == tuple(edge.name for edge in every)
    assert graph.nodes == tuple(site.name for site in nodes(SMALL))


def test_q_and_v_edges_between_the_same_nodes_stay_apart():
    graph = circuit(*CHAIN).to_networkx()
    assert graph["input"]["a0.h0"]["q"]["score"] == 1.0
    assert graph["input"]["a0.h0"]["v"] == {"port": "v", "score": -3.0, "weight": 3.0}
    assert graph["a0.h0"]["m1"][""]["port"] == ""
    assert graph.nodes["a0.h0"] == {"kind": "head", "layer": 0, "unit": 0}
    assert graph.nodes["logits"]["layer"] == SMALL.n_layers


def test_networkx_is_a_copy():
    graph = circuit(*CHAIN)
    plain = graph.to_networkx()
    plain.remove_node("m1")
    plain["input"]["logits"][""]["score"] = 99.0
    assert graph.to_networkx().number_of_nodes() == 4
    assert graph.to_networkx()["input"]["logits"][""]["score"] == 0.5


def test_lookup_len_and_membership():
    graph = circuit(*CHAIN)
    assert len(graph) == 5
    assert "m1" in graph
    assert "a0.h0->m1" in graph
    assert "m0" not in graph
    assert graph["input->a0.h0<v>"] == -3.0
    with pytest.raises(SiteError, match=r"did you mean 'a0.h0->m1'"):
        graph["a0.h0->m2"]
    with pytest.raises(SiteError, match="has no score of its own"):
        graph["m1"]


def test_a_circuit_without_edges_is_still_true():
    assert CircuitGraph(CircuitInfo(SMALL))
    assert len(CircuitGraph(CircuitInfo(SMALL))) == 0


def test_it_cannot_be_changed():
    graph = circuit(*CHAIN)
    with pytest.raises(AttributeError, match="does not change"):
        graph.info = CircuitInfo(SMALL)


def test_copies_and_pickles_are_equal():
    graph = circuit(*CHAIN)
    assert copy.deepcopy(graph) == graph
    assert pickle.loads(pickle.dumps(graph)) == graph


def test_all_faults_are_listed_at_once():
    wrong = [
        ScoredEdge(Edge(mlp(1), mlp(0)), 1.0),
        ScoredEdge(Edge(INPUT, head(0, 0)), 1.0),
        ScoredEdge(Edge(INPUT, mlp(7)), float("nan")),
        ScoredEdge(Edge(INPUT, LOGITS), 1.0),
        ScoredEdge(Edge(INPUT, LOGITS), 2.0),
        ScoredEdge(Edge(LOGITS, LOGITS), 2.0),
    ]
    with pytest.raises(FormatError) as caught:
        CircuitGraph(CircuitInfo(SMALL), wrong, [ScoredNode(mlp(0).at("a\nb"))])
    told = str(caught.value)
    for part in ("m0 does not come after m1", "add <q>", "no site 'm7'", "score nan", "2 times"):
        assert part in told
    assert "logits cannot send" in told
    assert "must be printable" in told


def test_a_node_circuit_has_no_edges():
    edge = ScoredEdge(Edge(INPUT, LOGITS), 1.0)
    with pytest.raises(FormatError, match="level node has no edges"):
        CircuitGraph(CircuitInfo(SMALL, level="node"), [edge])


def test_pruning_drops_dead_ends_from_both_sides():
    graph = circuit(*CHAIN, ("input->m0", 9.0), ("a1.h1->logits", 9.0), ("a0.h1->a1.h0<k>", 9.0))
    pruned = graph.prune()
    assert set(pruned.edges) == {name for name, _ in CHAIN}
    assert pruned.nodes == ("input", "a0.h0", "m1", "logits")
    assert pruned.info.selection.kept == 5


def test_top_takes_the_strongest_then_prunes_and_says_both_numbers():
    graph = circuit(*CHAIN).top(3)
    assert graph.edges == ("input->a0.h0<v>", "a0.h0->m1", "m1->logits")
    shorter = circuit(*CHAIN).top(2)
    assert len(shorter) == 0
    assert (shorter.info.selection.requested, shorter.info.selection.chosen) == (2, 2)
    assert shorter.info.selection.kept == 0


def test_top_by_signed_score_prefers_positive_edges():
    assert "input->a0.h0<v>" not in circuit(*CHAIN).top(4, absolute=False)
    assert len(circuit(*CHAIN).top(4, absolute=False)) == 4


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda graph: graph.top(-1), "the number to keep is -1; give at least 0"),
        (lambda graph: graph.top(2.0), "is 2.0; give a whole number"),
        (lambda graph: graph.threshold("high"), "the threshold is 'high'; give a number"),
        (lambda graph: graph.threshold(float("nan")), "the threshold is nan"),
        (lambda graph: graph.union("b.json"), "'b.json' is no circuit; CircuitGraph.load reads"),
        (lambda graph: graph.diff(None), "None is no circuit"),
    ],
)
def test_requests_that_cannot_be_meant_are_refused(call, told):
    with pytest.raises(FormatError, match=told):
        call(circuit(*CHAIN))


def test_a_folder_is_no_file_of_a_circuit(tmp_path):
    with pytest.raises(FormatError, match="is a folder; name a file in it"):
        CircuitGraph.load(tmp_path)


def test_changing_the_edges_forgets_the_circuits_metric_only():
    graph = with_metrics(circuit(*CHAIN), full=3.0, empty=1.0, circuit=2.0, ablation="corrupted")
    assert graph.faithfulness == 0.5
    smaller = graph.top(3).info.metrics
    assert (smaller.full, smaller.empty, smaller.circuit) == (3.0, 1.0, None)
    assert smaller.faithfulness is None


def test_faithfulness_is_unknown_when_the_metric_does_not_move():
    assert with_metrics(circuit(*CHAIN), full=1.0, empty=1.0, circuit=1.0).faithfulness is None


def test_subgraph_names_the_nodes_it_does_not_have():
    part = circuit(*CHAIN).subgraph(["input", "a0.h0"])
    assert part.edges == ("input->a0.h0<q>", "input->a0.h0<v>")
    with pytest.raises(SiteError, match=r"'a0\.h9' is not .* did you mean 'a0\.h0'"):
        circuit(*CHAIN).subgraph(["a0.h9"])


def test_data_frame_is_strongest_first():
    frame = circuit(*CHAIN).to_frame()
    assert list(frame.index[:2]) == ["m1->logits", "input->a0.h0<v>"]
    assert list(frame.columns) == ["sender", "receiver", "port", "score"]
    assert len(CircuitGraph(CircuitInfo(SMALL)).to_frame()) == 0


def test_repr_is_one_short_line():
    graph = circuit(*CHAIN, task="ioi", method="relevance")
    assert repr(graph) == "CircuitGraph(ioi relevance noising: 4 nodes, 5 edges)"
    assert repr(with_metrics(graph, 2, 0, 1)).endswith("5 edges, faithfulness 0.50)")


def test_circuits_of_different_models_are_not_compared():
    other = circuit(("input->logits", 1.0), anatomy=Anatomy(3, 2, 2, 8, 4, 16))
    for join in (circuit(*CHAIN).union, circuit(*CHAIN).minus, circuit(*CHAIN).diff):
        with pytest.raises(FormatError, match="different shape"):
            join(other)


def test_union_keeps_what_both_origins_share():
    one = circuit(("input->logits", 1.0), task="ioi", method="ig", seed=0, prompts=4)
    other = circuit(("input->logits", 2.0), ("input->m0", 1.0), task="ioi", method="activation")
    both = one.union(other)
    assert both["input->logits"] == 1.0
    assert (both.info.task, both.info.method, both.info.seed) == ("ioi", "ig + activation", None)


@given(circuits())
def test_pruning_leaves_only_paths_from_input_to_logits(graph):
    pruned = graph.prune()
    plain = pruned.to_networkx()
    for item in pruned.scored_edges:
        before = nx.ancestors(plain, item.edge.sender.name) | {item.edge.sender.name}
        after = nx.descendants(plain, item.edge.receiver.name) | {item.edge.receiver.name}
        assert any(name.startswith("input") for name in before)
        assert any(name.startswith("logits") for name in after)
    assert set(pruned.edges) <= set(graph.edges)
    assert pruned.prune() == pruned
    assert nx.is_directed_acyclic_graph(plain)


@given(circuits(), st.integers(0, 14))
def test_top_is_part_of_the_circuit_and_never_larger(graph, n):
    top = graph.top(n)
    assert len(top) <= n
    assert all(top[name] == graph[name] for name in top)
    assert graph.top(len(graph)).edges == graph.prune().edges


@given(circuits(SMALL), circuits(SMALL))
def test_set_algebra(one, other):
    union, diff = one.union(other), one.diff(other)
    assert set(union.edges) == set(one.edges) | set(other.edges)
    assert all(union[name] == (one if name in one.edges else other)[name] for name in union)
    assert set(diff.removed.edges) == set(one.edges) - set(other.edges)
    assert set(diff.added.edges) == set(other.edges) - set(one.edges)
    assert set(diff.common.edges) == set(one.edges) & set(other.edges)
    assert one.union(one).edges == one.edges
    assert one.diff(one).jaccard == 1.0


@given(node_circuits(), st.integers(0, 9))
def test_node_circuits_keep_unscored_nodes(graph, n):
    top = graph.top(n)
    unscored = {node.name for node in graph.scored_nodes if node.score is None}
    assert unscored <= set(top.nodes)
    assert len(top) == min(n, len(graph))
    assert graph.prune() is graph


@given(circuits())
def test_equal_circuits_have_equal_digests_and_hashes(graph):
    again = CircuitGraph(graph.info, reversed(graph.scored_edges), reversed(graph.scored_nodes))
    assert (again, again.digest, hash(again)) == (graph, graph.digest, hash(graph))


def test_edge_names_are_those_of_the_vocabulary():
    assert all(parse_edge(name).name == name for name in circuit(*CHAIN).edges)


def test_importing_graphs_does_not_import_torch():
    code = "import sys, graphs, graphs.formats; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(told.stdout.split())
    assert not loaded & {"torch", "transformers", "transformer_lens", "pandas", "pygraphviz"}


def test_networkx_carries_what_the_circuit_is_of():
    graph = circuit(*CHAIN).with_info(task="ioi", model="nano")
    plain = graph.to_networkx()
    told = {"task": "ioi", "model": "nano", "level": "edge", "direction": "noising"}
    assert told.items() <= plain.graph.items()
    assert all(data["weight"] == abs(data["score"]) for *_, data in plain.edges(data=True))
    assert CircuitGraph.from_networkx(plain) == graph


def test_edges_removed_in_networkx_are_gone_and_made_up_ones_refused():
    plain = circuit(*CHAIN).to_networkx()
    plain.remove_edge("input", "a0.h0", key="v")
    again = CircuitGraph.from_networkx(plain)
    assert "input->a0.h0<v>" not in again
    assert len(again) == 4
    plain.add_edge("logits", "input", key="", score=1.0)
    with pytest.raises(FormatError, match="networkx graph"):
        CircuitGraph.from_networkx(plain)


def test_a_graph_of_another_program_says_what_is_missing():
    with pytest.raises(FormatError, match="no attribute 'circuit'"):
        CircuitGraph.from_networkx(nx.MultiDiGraph([("a", "b")]))
    with pytest.raises(FormatError, match="give a MultiDiGraph"):
        CircuitGraph.from_networkx(nx.DiGraph())


def test_a_run_s_folder_is_opened_as_its_circuit(tmp_path):
    graph = circuit(*CHAIN)
    graph.save(tmp_path / "circuit.json")
    assert CircuitGraph.load(tmp_path) == graph
