"""Attribution graphs of the embedded model: what is returned, written, exported and refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import circuits
from circuits.dictionaries.trace import trace
from graphs import CircuitGraph
from graphs.formats import render
from graphs.trace_notes import TraceNotes
from tasks.errors import MethodError, RunError, SiteError, TaskError
from tests.patching.dictionaries.build import dictionary

PROMPT = "When Mary and John went to the park, John gave the ball to"
OTHER = "When Mary and John went to the park, Mary gave the ball to"


@pytest.fixture(scope="module")
def nano():
    return circuits.load_model("nano")


@pytest.fixture(scope="module")
def transcoders():
    """Random ones: everything here holds for any dictionary."""
    return [
        dictionary(
            f"mlp_out.{i}",
            "topk",
            128,
            64,
            reads=f"mlp_normed.{i}",
            seed=i,
            dtype=torch.float32,
        )
        for i in range(4)
    ]


@pytest.fixture(scope="module")
def found(nano, transcoders, tmp_path_factory):
    out = tmp_path_factory.mktemp("traces") / "one"
    return out, trace(nano, PROMPT, transcoders, out=out)


def test_effects_sum_to_what_is_read(found):
    assert found[1].gap < 1e-3
    assert found[1].active == len(found[1].whole.nodes.of(2).nonzero()[0])


def test_the_logits_are_the_likeliest_tokens(found, nano):
    notes = found[1].notes
    said = {notes.words[n]: v["probability"] for n, v in notes.nodes.items() if "probability" in v}
    assert max(said, key=said.get) == " Mary"
    assert sum(said.values()) >= 0.95 or len(said) == 10


def test_a_folder_reads_back_as_a_circuit(found):
    out, made = found
    assert CircuitGraph.load(out) == made.circuit
    report = json.loads((out / "trace.json").read_text())
    assert report["scores"]["replacement"] == made.replacement
    assert {node["name"] for node in report["nodes"]} == set(made.circuit.nodes)
    assert sorted(p.name for p in out.iterdir()) == [
        "circuit.html",
        "circuit.json",
        "neuronpedia.json",
        "trace.json",
    ]


def test_edges_are_direct_effects(found):
    made = found[1]
    nodes = made.whole.nodes
    numbers = {nodes.site(i).name: i for i in range(len(nodes))}
    rows = {int(n): row for row, n in enumerate(nodes.targets)}
    for item in made.circuit.scored_edges[::25]:
        row = rows[numbers[item.edge.receiver.name]]
        effect = made.whole.effects[row, numbers[item.edge.sender.name]]
        assert item.score == pytest.approx(float(effect))


def test_neuronpedia_has_the_prompt_and_its_kinds_of_nodes(found, nano):
    page = json.loads((found[0] / "neuronpedia.json").read_text())
    ids = nano.tokenizer.encode(PROMPT)
    assert page["metadata"]["prompt"] == PROMPT
    assert len(page["metadata"]["prompt_tokens"]) == len(ids)
    by_type = {}
    for node in page["nodes"]:
        by_type.setdefault(node["feature_type"], []).append(node)
        assert page["metadata"]["prompt_tokens"][node["ctx_idx"]]
    assert set(by_type) == {
        "embedding",
        "cross layer transcoder",
        "mlp reconstruction error",
        "logit",
    }
    assert len({node["node_id"] for node in page["nodes"]}) == len(page["nodes"])
    assert all(node["layer"] == "5" and "(p=" in node["clerp"] for node in by_type["logit"])
    assert all(node["node_id"].split("_")[1] == "-1" for node in by_type[ERROR])
    for node in by_type["cross layer transcoder"]:
        layer, latent, _ = map(int, node["node_id"].split("_"))
        assert node["feature"] == (layer + latent) * (layer + latent + 1) // 2 + latent
        assert 0 < node["influence"] <= 1
        assert node["activation"] > 0


ERROR = "mlp reconstruction error"


def test_every_format_draws_it(found):
    small = found[1].circuit.top(12)
    for form in ("json", "graphml", "gexf", "cytoscape", "csv", "html", "dot", "svg"):
        assert render(small, form)


def test_a_pair_is_exact_too(nano, transcoders):
    made = trace(nano, PROMPT, transcoders, corrupted=OTHER, targets=[" Mary", " John"])
    assert made.gap < 1e-3
    assert {made.notes.words[n] for n in made.circuit.nodes if n.startswith("logit")} == {
        " Mary",
        " John",
    }
    # Only the name that differs is a source among the tokens.
    ids = [np.array(nano.tokenizer.encode(text)) for text in (PROMPT, OTHER)]
    at = set(np.flatnonzero(ids[0] != ids[1]).tolist())
    tokens = {
        e.edge.sender.position for e in made.circuit.scored_edges if e.edge.sender.kind == "input"
    }
    assert tokens <= at


def test_fewer_nodes_are_kept_for_a_smaller_share(nano, transcoders, found):
    made = trace(nano, PROMPT, transcoders, node_share=0.4, edge_share=0.7)
    assert len(made.circuit.nodes) < len(found[1].circuit.nodes)
    assert made.replacement == found[1].replacement
    assert made.pruned_replacement <= made.replacement


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"corrupted": "Mary"}, TaskError, "one length"),
        ({"corrupted": PROMPT}, TaskError, "nothing differs"),
        ({"targets": [" Mary John"]}, TaskError, "Mary John"),
        ({"targets": [10**6]}, TaskError, "outside"),
        ({"node_share": 0}, MethodError, "share of nodes is 0"),
        ({"most": 0, "batch_size": 0}, MethodError, "batch size"),
        ({"dictionaries": [dictionary("resid_post.1", width=128)]}, SiteError, "no transcoder"),
        ({"dictionaries": [dictionary("mlp_out.1", reads="mlp_in.1")]}, SiteError, "has 128"),
    ],
)
def test_what_cannot_be_traced_is_refused(nano, transcoders, changes, error, told):
    given = {"dictionaries": transcoders, **changes}
    with pytest.raises(error, match=told):
        trace(nano, PROMPT, **given)


def test_a_folder_is_not_replaced_unasked(nano, transcoders, found):
    with pytest.raises(RunError, match="holds a trace already"):
        trace(nano, PROMPT, transcoders, out=found[0])


@pytest.mark.parametrize(
    "odd", [None, [], {"tokens": 3}, {"tokens": [1]}, {"nodes": {"x": 3}}, {"words": [1]}]
)
def test_odd_notes_count_as_none(found, odd):
    info = found[1].circuit.info
    changed = replace(info, options={**info.options, "trace": odd})
    assert TraceNotes.of(changed).tokens == ()
