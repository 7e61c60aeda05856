import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import networkx as nx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import graphs
from graphs.files import write_json
from graphs.formats.neuronpedia import to_neuronpedia
from graphs.schema import from_document, from_json, json_schema, to_document, to_json
from graphs.view import Group, View
from tasks.errors import FormatError
from tests.graphs.strategies import circuit, circuits, node_circuits, with_metrics

COMMITTED = Path(graphs.__file__).parent / "data" / "circuit.schema.json"
GOLDEN = Path(__file__).parent / "golden" / "circuit.json"


def sample():
    graph = circuit(
        ("input->a0.h1<q>", 0.1),
        ("input->a0.h1<v>", -1 / 3),
        ("a0.h1->m1", 2.5),
        ("m1->logits", 1e-17),
        task="ioi",
        method="relevance",
        metric="logit_diff",
        options={"steps": 5, "rules": ["half"]},
        seed=0,
    )
    return with_metrics(graph, full=3.0, empty=-1.0, circuit=2.0, ablation="corrupted")


def document(**changes):
    return {**json.loads(to_json(sample())), **changes}


def test_committed_schema_is_current():
    assert COMMITTED.read_text() == write_json(json_schema())


def test_golden_file_reads_and_is_written_again_to_the_byte():
    data = GOLDEN.read_bytes()
    assert from_json(data) == sample()
    assert to_json(sample()).encode() == data


def test_a_file_of_version_1_0_reads():
    assert from_json((GOLDEN.parent / "circuit_1_0.json").read_bytes()) == sample()


def test_schema_accepts_what_is_written_and_refuses_what_is_not():
    checker = jsonschema.Draft202012Validator(json.loads(COMMITTED.read_text()))
    checker.validate(document())
    assert not checker.is_valid(document(format="other"))
    assert not checker.is_valid(document(edges=[{"source": "input"}]))


def test_a_circuit_of_a_model_with_experts_survives_a_file():
    experts = {"d_mlp": 0, "n_experts": 4, "shared_expert": True, "dense_layers": (0,)}
    anatomy = replace(sample().info.anatomy, **experts)
    graph = circuit(("input->m1", 1.0), ("m1->logits", 2.0), anatomy=anatomy)
    assert from_json(to_json(graph).encode()) == graph
    checker = jsonschema.Draft202012Validator(json.loads(COMMITTED.read_text()))
    checker.validate(json.loads(to_json(graph)))
    assert "n_experts" not in to_json(sample())
    broken = to_document(graph)
    broken["graph"]["anatomy"]["dense_layers"] = [7]
    with pytest.raises(FormatError, match="dense_layers must be layers from 0 to 1"):
        from_document(broken)


def test_networkx_opens_the_file():
    plain = nx.node_link_graph(document(), edges="edges")
    ours = sample().to_networkx()
    assert dict(plain.nodes(data=True)) == dict(ours.nodes(data=True))
    assert {(*e, k): d["score"] for *e, k, d in plain.edges(keys=True, data=True)} == {
        (*e, k): d["score"] for *e, k, d in ours.edges(keys=True, data=True)
    }


@given(circuits() | node_circuits())
def test_round_trip_is_exact(graph):
    text = to_json(graph)
    again = from_json(text.encode())
    assert again == graph
    assert to_json(again) == text
    jsonschema.Draft202012Validator(json_schema()).validate(json.loads(text))


EDGE = {"source": "input", "target": "logits", "key": "", "score": 1.0}
FAULTS = {
    "another major version": ({"schema_version": "2.0"}, "'2.0'; this program reads 1.x"),
    "no version": ({"schema_version": None}, "schema version None"),
    "another format": ({"format": "graph"}, 'needs an object with "format": "circuit"'),
    "a field missing": ({"edges": [{"source": "input"}]}, r"edges\[0\].target: field required"),
    "a field unknown": ({"notes": "x"}, "notes: extra inputs are not permitted"),
    "text for a number": (
        {"edges": [{**EDGE, "score": "1"}]},
        r"edges\[0\].score: input should be",
    ),
    "an edge to nowhere": ({"edges": [{**EDGE, "target": "m0"}]}, "there is no node 'm0'"),
    "an edge twice": ({"edges": [EDGE, EDGE]}, "'input->logits' is listed 2 times"),
    "an edge backwards": (
        {"edges": [{**EDGE, "source": "m1", "target": "a0.h1", "key": "q"}]},
        "a0.h1 does not come after m1",
    ),
    "a cycle": (
        {"edges": [{**EDGE, "source": "m1", "target": "m1"}]},
        "m1 does not come after m1",
    ),
    "a port it has not": ({"edges": [{**EDGE, "key": "q"}]}, "logits has one input and no port"),
    "no such port": ({"edges": [{**EDGE, "key": "z"}]}, r"edges\[0\].key: input should be"),
    "a node twice": ({"nodes": [{"id": "m1"}, {"id": "m1"}], "edges": []}, "listed 2 times"),
    "a node it has not": ({"nodes": [{"id": "m9"}], "edges": []}, "no site 'm9'"),
    "a node that is none": ({"nodes": [{"id": "resid_pre.0"}], "edges": []}, "not a node of a"),
    "a name with zeros": ({"nodes": [{"id": "m01"}], "edges": []}, "'m01' is written 'm1'"),
    "a wrong kind": (
        {"nodes": [{"id": "m1", "kind": "head"}], "edges": []},
        "'m1' has kind 'mlp', not 'head'",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_files_are_refused_with_a_reason(name):
    changes, reason = FAULTS[name]
    with pytest.raises(FormatError, match=reason):
        from_document(document(**changes), "c.json")


def test_all_faults_are_told_at_once():
    edges = [{**EDGE, "target": "m0"}, {**EDGE, "key": "q"}, {**EDGE, "source": "x"}]
    with pytest.raises(FormatError) as caught:
        from_document(document(edges=edges), "c.json")
    told = str(caught.value)
    assert told.startswith("c.json is not a circuit:")
    assert all(part in told for part in ("edges[0]", "no port 'q'", "there is no node 'x'"))


def test_a_newer_minor_version_is_read_without_what_it_adds():
    newer = document(schema_version="1.7", colour="blue")
    newer["nodes"][0]["label"] = newer["graph"]["label"] = "x"
    assert from_document(newer) == sample()
    newer["edges"][0]["score"] = "x"
    with pytest.raises(FormatError, match=r"edges\[0\].score"):
        from_document(newer)


BROKEN = {
    "empty": b"",
    "cut short": to_json(sample()).encode()[:-40],
    "not text": b"\x89PNG\r\n\x1a\n\xff\xfe",
    "NaN": to_json(sample()).replace("2.5", "NaN").encode(),
    "infinity": to_json(sample()).replace("2.5", "-Infinity").encode(),
    "a number too large": to_json(sample()).replace("2.5", "1e999").encode(),
    "a whole number too large": to_json(sample()).replace("2.5", "1" + "0" * 5000).encode(),
    "a large whole number": to_json(sample()).replace("2.5", "1" + "0" * 400).encode(),
    "nested deeply": b"[" * 200_000,
    "a key twice": b'{"format": "circuit", "format": "circuit"}',
    "a list": b"[]",
    "half a character": to_json(sample()).replace("ioi", "\\ud800").encode(),
    "infinity in options": to_json(sample()).replace(": 5", ": 1e999").encode(),
    "heads that do not share evenly": to_json(sample())
    .replace('"n_kv_heads": 2', '"n_kv_heads": 3')
    .encode(),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_give_one_format_error(name):
    with pytest.raises(FormatError, match=r"^c\.json") as caught:
        from_json(BROKEN[name], "c.json")
    assert len(str(caught.value)) < 2000


@given(st.binary(max_size=200) | st.text().map(str.encode))
@example(b"null")
def test_random_bytes_never_give_anything_but_a_format_error(data):
    with pytest.raises(FormatError):
        from_json(data)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def places(value, here=()):
    yield here
    if isinstance(value, dict | list):
        steps = value if isinstance(value, dict) else range(len(value))
        for step in steps:
            yield from places(value[step], (*here, step))


def mutated(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = mutated(value[path[0]], path[1:], new)
    return copy


@given(st.sampled_from(list(places(document()))), anything)
def test_any_field_changed_to_anything_is_read_or_refused(path, value):
    text = json.dumps(mutated(document(), path, value))
    try:
        graph = from_json(text.encode())
    except FormatError:
        return
    assert from_json(to_json(graph).encode()) == graph


@given(circuits())
def test_documents_are_not_changed_by_reading(graph):
    plain = to_document(graph)
    before = json.dumps(plain)
    from_document(plain)
    assert json.dumps(plain) == before


def test_marks_are_read_and_those_of_nothing_are_refused():
    marks = {"pinned": ["a0.h1"], "groups": [{"name": "x", "members": ["a0.h1"], "note": "why"}]}
    given = document()
    given["graph"]["view"] = marks
    found = from_document(given)
    assert found.info.view == View(("a0.h1",), (Group("x", ("a0.h1",), "why"),))
    assert found.prune().info.view.among(["logits"]) == View()
    supernodes = json.loads(to_neuronpedia(found))["qParams"]
    assert supernodes["supernodes"] == [["x", *supernodes["pinnedIds"]]]
    for wrong, told in (
        ({"pinned": ["a1.h9"]}, "is marked and not in the circuit"),
        ({"groups": [{"name": "x", "members": []}]}, "at least 1 item"),
    ):
        given["graph"]["view"] = wrong
        with pytest.raises(FormatError, match=told):
            from_document(given)
    with pytest.raises(FormatError, match="the supernode 'x' has no members"):
        found.with_info(view=View((), (Group("x", ()),)))
