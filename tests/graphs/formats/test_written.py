"""Formats that are only written: the tool each is for, or its rules, read them back."""

import csv
import io
import json
from collections import Counter

import networkx as nx
from hypothesis import assume, given

from graphs.formats.cytoscape import to_cytoscape
from graphs.formats.neuronpedia import to_neuronpedia
from graphs.formats.table import to_csv
from tests.graphs.strategies import circuit, circuits, node_circuits


@given(circuits() | node_circuits())
def test_networkx_reads_cytoscape(graph):
    plain = nx.cytoscape_graph(json.loads(to_cytoscape(graph)))
    assert list(plain) == list(graph.nodes)
    found = {data["id"]: data["score"] for *_, data in plain.edges(data=True)}
    assert found == {name: graph[name] for name in graph.edges}


@given(circuits() | node_circuits())
def test_csv_keeps_every_digit(graph):
    rows = list(csv.DictReader(io.StringIO(to_csv(graph))))
    assert [row[graph.level] for row in rows] == list(graph)
    assert [float(row["score"]) for row in rows] == [graph[name] for name in graph]
    parts = graph.scored_edges if graph.level == "edge" else graph.scored_nodes
    spreads = {part.name: part.standard_error for part in parts}
    for row in rows:
        told = row["standard_error"]
        assert (float(told) if told else None) == spreads[row[graph.level]]


REQUIRED = {
    "node_id": str,
    "feature": int,
    "layer": str,
    "ctx_idx": int,
    "feature_type": str,
    "jsNodeId": str,
    "clerp": str,
}


@given(circuits() | node_circuits())
def test_neuronpedia_has_what_the_viewer_needs(graph):
    assume(all(abs(item.score) < 1e300 for item in graph.scored_edges))
    page = json.loads(to_neuronpedia(graph))
    assert set(page) == {"metadata", "qParams", "nodes", "links"}
    tokens = page["metadata"]["prompt_tokens"]
    assert all(isinstance(page["metadata"][key], str) for key in ("slug", "scan", "prompt"))
    for node in page["nodes"]:
        assert {key: type(node[key]) for key in REQUIRED} == REQUIRED
        assert 0 <= node["ctx_idx"] < len(tokens)
        assert node["feature_type"] != "logit" or "(p=" in node["clerp"]
    ids = [node["node_id"] for node in page["nodes"]]
    assert len(set(ids)) == len(ids) == len(graph.nodes)
    ends = [(link["source"], link["target"]) for link in page["links"]]
    assert len(set(ends)) == len(ends)
    assert {name for pair in ends for name in pair} <= set(ids)
    # The viewer drops what is found in more than two thirds of the columns.
    often = Counter((node["layer"], node["feature"]) for node in page["nodes"])
    assert all(count <= 2 / 3 * len(tokens) for count in often.values())


def test_neuronpedia_sums_the_ports_of_a_head():
    graph = circuit(("input->a0.h1<q>", 0.5), ("input->a0.h1<v>", -2.0), ("a0.h1->logits", 1.0))
    page = json.loads(to_neuronpedia(graph))
    assert page["links"] == [
        {"source": "E_0_0", "target": "0_1_0", "weight": -1.5},
        {"source": "0_1_0", "target": "2_0_0", "weight": 1.0},
    ]


def test_neuronpedia_has_a_column_for_each_position():
    graph = circuit(("input@S1->a0.h1@S2<v>", 1.0), ("a0.h1@S2->logits", 1.0))
    page = json.loads(to_neuronpedia(graph))
    assert page["metadata"]["prompt_tokens"] == ["S1", "S2", "all positions"]
    assert [node["ctx_idx"] for node in page["nodes"]] == [0, 1, 2]
