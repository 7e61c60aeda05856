import io
import re

import networkx as nx
import pytest
from hypothesis import given

from graphs.formats.xml import LEAST_WEIGHT, from_graphml, to_gexf, to_graphml
from graphs.schema import SCHEMA_VERSION
from tasks.errors import FormatError
from tests.graphs.strategies import circuit, circuits, node_circuits

GRAPH = circuit(("input->a0.h1<q>", 0.1), ("input->a0.h1<v>", -1 / 3), ("a0.h1->logits", 1e-300))


@given(circuits() | node_circuits())
def test_graphml_round_trip_is_exact(graph):
    assert from_graphml(to_graphml(graph).encode()) == graph


@given(circuits() | node_circuits())
def test_networkx_reads_graphml(graph):
    plain = nx.read_graphml(io.BytesIO(to_graphml(graph).encode()), force_multigraph=True)
    assert list(plain) == list(graph.nodes)
    found = {key: data["score"] for _, _, key, data in plain.edges(keys=True, data=True)}
    assert found == {name: graph[name] for name in graph.edges}


@given(circuits() | node_circuits())
def test_networkx_reads_gexf(graph):
    plain = nx.read_gexf(io.BytesIO(to_gexf(graph).encode()))
    assert list(plain) == list(graph.nodes)
    found = {data["id"]: data["score"] for *_, data in plain.edges(data=True)}
    assert found == {name: graph[name] for name in graph.edges}
    for *_, data in plain.edges(data=True):
        assert data["weight"] == max(abs(data["score"]), LEAST_WEIGHT) > 0


def test_parallel_edges_differ_in_kind_and_none_weighs_nothing():
    ends = [("input->a0.h1<q>", 0.0), ("input->a0.h1<k>", -0.0), ("input->a0.h1<v>", 0.5)]
    text = to_gexf(circuit(*ends, ("a0.h1->logits", 0.0)))
    kinds = re.findall(r'<edge kind="(\w+)" source="input" target="a0.h1"', text)
    assert sorted(kinds) == ["k", "q", "v"]
    assert re.search(r'<edge kind="in" source="a0.h1" target="logits"', text)
    weights = [float(weight) for weight in re.findall(r'weight="([^"]*)"', text)]
    assert len(weights) == 4
    assert min(weights) > 0
    plain = nx.read_gexf(io.BytesIO(text.encode()))
    assert sorted(data["score"] for *_, data in plain.edges(data=True)) == [0, 0, 0, 0.5]


def test_gexf_has_no_date():
    assert re.search(r"\d{4}-\d\d-\d\d|lastmodified|NetworkX", to_gexf(GRAPH)) is None


def test_ids_of_parallel_edges_differ():
    for text in (to_graphml(GRAPH), to_gexf(GRAPH)):
        ids = re.findall(r'<edge [^>]*\bid="([^"]*)"', text)
        assert len(ids) == len(set(ids)) == 3


def test_what_other_tools_add_to_graphml_is_passed_over():
    text = to_graphml(GRAPH)
    extra = '<key id="x" for="node" attr.name="x" attr.type="double" />\n  <graph'
    text = text.replace("<graph ", extra + " ", 1)
    text = text.replace('<node id="input">', '<node id="input"><data key="x">3.5</data>')
    assert from_graphml(text.encode()) == GRAPH


FAULTS = {
    "no circuit": (to_graphml(GRAPH).replace('"circuit"', '"other"'), "has no attribute 'circuit'"),
    "another version": (
        to_graphml(GRAPH).replace(f'"{SCHEMA_VERSION}"', '"3.0"'),
        "schema version '3.0'",
    ),
    "no metadata": (
        re.sub(r"\{.*\}", "{}", to_graphml(GRAPH)),
        "does not hold a circuit's metadata",
    ),
    "cut short": (to_graphml(GRAPH)[:700], "is not GraphML"),
    "an edge to nowhere": (
        to_graphml(GRAPH).replace('target="logits"', 'target="m7"'),
        "no site 'm7'",
    ),
    "not a number": (to_graphml(GRAPH).replace("0.1<", "nan<"), "finite number"),
    "text for a number": (to_graphml(GRAPH).replace("0.1<", "many<"), "is not GraphML"),
    "an edge twice": (
        to_graphml(GRAPH).replace('<data key="d4">v</data>', '<data key="d4">q</data>'),
        "listed 2 times",
    ),
    "entities": ('<!DOCTYPE a [<!ENTITY b "cc">]>' + to_graphml(GRAPH), "declares a document type"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_graphml_is_refused_with_a_reason(name):
    text, reason = FAULTS[name]
    with pytest.raises(FormatError, match=reason):
        from_graphml(text.encode(), "c.graphml")
