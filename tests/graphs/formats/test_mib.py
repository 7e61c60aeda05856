import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from graphs import top_edges
from graphs.formats.mib import from_mib, scores_from_mib, to_mib
from patching.nodes.edges import edges
from patching.nodes.layout import nodes
from tasks.errors import FormatError
from tests.graphs.strategies import SMALL, circuit, circuits, edge_scores, node_circuits

GRAPH = circuit(("input->a0.h1<q>", 0.5), ("a0.h1->logits", -2.0), task="ioi")


def theirs(**changes):
    """A file as EAP-IG writes it: no metadata of ours, NaN for nodes without a score."""
    document = json.loads(to_mib(GRAPH))
    del document["circuit"]
    for node in document["nodes"].values():
        node["score"] = float("nan")
    return {**document, **changes}


def read(document):
    return from_mib(json.dumps(document).encode(), "c.json")


@given(circuits(at=st.none()))
def test_round_trip_is_exact(graph):
    assert from_mib(to_mib(graph).encode()) == graph


@given(node_circuits())
def test_round_trip_of_node_circuits_is_exact(graph):
    plain = {site.name for site in nodes(graph.info.anatomy)}
    assume(set(graph.nodes) <= plain)
    assert from_mib(to_mib(graph).encode()) == graph


@given(circuits(at=st.none()))
def test_every_edge_of_the_model_is_listed_once(graph):
    anatomy = graph.info.anatomy
    document = json.loads(to_mib(graph))
    assert set(document["edges"]) == {edge.name for edge in edges(anatomy)}
    assert set(document["nodes"]) == {site.name for site in nodes(anatomy)}
    chosen = {name for name, edge in document["edges"].items() if edge["in_graph"]}
    assert chosen == set(graph.edges)
    assert document["cfg"] == {
        "n_layers": anatomy.n_layers,
        "n_heads": anatomy.n_heads,
        "d_model": anatomy.d_model,
        "parallel_attn_mlp": anatomy.parallel,
    }


@given(edge_scores())
def test_with_the_scores_all_edges_can_be_ranked_again(scores):
    graph = top_edges(scores, 5)
    again = scores_from_mib(to_mib(graph, scores).encode())
    assert {name: again[name] for name in again} == {name: scores[name] for name in scores}
    assert top_edges(again, 5).edges == graph.edges


def test_a_file_of_theirs_is_read():
    graph = read(theirs())
    assert graph.edges == GRAPH.edges
    assert [graph[name] for name in graph.edges] == [0.5, -2.0]
    assert graph.level == "edge"
    assert graph.info.selection.describe() == "as given: 2 of 46 edges, 44 left out"
    assert (graph.info.anatomy.n_layers, graph.info.anatomy.n_kv_heads) == (2, 2)


def test_scores_of_nodes_only_make_a_node_circuit():
    document = theirs()
    for edge in document["edges"].values():
        edge["score"] = 0.0
    document["nodes"]["a0.h1"]["score"] = 1.5
    graph = read(document)
    assert (graph.level, graph.edges, graph["a0.h1"]) == ("node", (), 1.5)


FAULTS = {
    "a key missing": ({"cfg": {"n_layers": 2}}, r"cfg.n_heads: field required"),
    "no edges": ({"edges": None}, "edges: input should be"),
    "a model too large": ({"cfg": {"n_layers": 10**12, "n_heads": 1, "d_model": 1}}, "n_layers"),
    "an unknown node": ({"nodes": {"a9.h9": {"in_graph": True}}}, "no site 'a9.h9'"),
    "an unknown edge": ({"edges": {"m0->m9": {"score": 1, "in_graph": True}}}, "no site 'm9'"),
    "no edge": ({"edges": {"m0": {"score": 1, "in_graph": True}}}, "'m0' is not an edge"),
    "backwards": ({"edges": {"m1->m0": {"score": 1, "in_graph": True}}}, "does not come after"),
    "not a number": (
        {"edges": {"m0->m1": {"score": float("nan"), "in_graph": True}}},
        "finite number",
    ),
    "neurons": (
        {"nodes": {"m0": {"in_graph": True, "neurons": [True]}}},
        "chooses among the neurons of m0",
    ),
    "our part of another version": (
        {"circuit": {"format": "circuit", "schema_version": "9.0"}},
        "'9.0'",
    ),
    "our part broken": (
        {"circuit": {"format": "circuit", "schema_version": "1.0"}},
        "circuit.graph: field required",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_files_are_refused_with_a_reason(name):
    changes, reason = FAULTS[name]
    with pytest.raises(FormatError, match=reason):
        read(theirs(**changes))


def test_positions_cannot_be_said():
    with pytest.raises(FormatError, match="whole heads and MLPs only; this circuit has m0@S1"):
        to_mib(circuit(("input->m0@S1", 1.0)))


def test_the_models_shape_is_kept_in_our_own_part():
    assert from_mib(to_mib(GRAPH).encode()).info.anatomy == SMALL


class Loader:
    """What EAP-IG's own reader does with a file, restated: it builds a graph from ``cfg`` alone and
    looks every name of the file up in it."""

    def __init__(self, document):
        cfg = document["cfg"]
        layers, heads = cfg["n_layers"], cfg["n_heads"]
        self.nodes, self.edges, stream = {"input": None}, {}, ["input"]
        for layer in range(layers):
            names = [f"a{layer}.h{head}" for head in range(heads)]
            reads = [(name, f"<{port}>") for name in names for port in "qkv"]
            self._link(stream, reads)
            if cfg["parallel_attn_mlp"]:
                self._link(stream, [(f"m{layer}", "")])
                stream += [*names, f"m{layer}"]
            else:
                stream += names
                self._link(stream, [(f"m{layer}", "")])
                stream.append(f"m{layer}")
            self.nodes |= dict.fromkeys([*names, f"m{layer}"])
        self._link(stream, [("logits", "")])
        for name, node in document["nodes"].items():
            if name == "logits":
                continue
            assert name in self.nodes
            self.nodes[name] = bool(node["in_graph"])
            if "score" in node:
                float(node["score"])
        for name, edge in document["edges"].items():
            assert name in self.edges
            self.edges[name] = (float(edge["score"]), bool(edge["in_graph"]))
        assert int(cfg["d_model"]) > 0

    def _link(self, stream, receivers):
        for sender in stream:
            self.edges |= dict.fromkeys(f"{sender}->{name}{port}" for name, port in receivers)


@given(circuits(at=st.none()) | node_circuits())
def test_what_is_written_reads_back_in_their_loader(graph):
    plain = {site.name for site in nodes(graph.info.anatomy)}
    assume(set(graph.nodes) <= plain)
    loaded = Loader(json.loads(to_mib(graph)))
    assert None not in loaded.nodes.values()
    assert None not in loaded.edges.values()
    chosen = {name for name, (_, inside) in loaded.edges.items() if inside}
    if graph.level == "edge":
        assert chosen == set(graph.edges)
        assert all(loaded.edges[name][0] == graph[name] for name in graph.edges)
    inside = {name for name, kept in loaded.nodes.items() if kept}
    assert inside == set(graph.nodes) - {"logits"}


def test_models_that_no_machine_has_are_refused_at_once():
    huge = {"n_layers": 10**6, "n_heads": 10**6, "d_model": 8}
    with pytest.raises(FormatError, match="claims a model of 1,000,000,000,000 heads"):
        read(theirs(cfg=huge))
    large = {"n_layers": 100, "n_heads": 1000, "d_model": 8, "parallel_attn_mlp": False}
    one = {"input->m99": {"score": 1.0, "in_graph": True}}
    graph = read(theirs(cfg=large, nodes={}, edges=one))
    with pytest.raises(FormatError, match="MIB files list every edge of the model"):
        to_mib(graph)
    back = {f"m{i}->m0": {"score": 1.0, "in_graph": True} for i in range(100)}
    with pytest.raises(FormatError, match=r"the first that can is 'a1\.h0'"):
        read(theirs(cfg=large, nodes={}, edges=back))
