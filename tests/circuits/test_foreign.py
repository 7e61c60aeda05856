"""Circuits of other programs: what their files do not say contradicts no model."""

import json

import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.evaluation.outcomes import check_same_model
from graphs import CircuitGraph
from graphs.formats.mib import to_mib
from patching.anatomy import contradictions
from patching.nodes.edges import edges
from patching.sources.stated import shape_of_config, stated_shape
from tasks.errors import EditError, FormatError, ModelError, RunError, SiteError
from tests import tiny_gguf
from tests.conftest import needs_package
from tests.families import CONFIGS, MORE, build, make_pairs, opened

GROUPED = ("llama", "gemma2", "qwen3")


def theirs(anatomy, chosen, scores=None):
    """A circuit as EAP-IG's writer leaves it: four numbers of the model, every edge by name."""
    names = [edge.name for edge in edges(anatomy)]
    inside = {end for name in chosen for end in name.split("<")[0].split("->")}
    nodes = ["input", *sorted({edge.receiver.name for edge in edges(anatomy)})]
    return {
        "cfg": {
            "n_layers": anatomy.n_layers,
            "n_heads": anatomy.n_heads,
            "parallel_attn_mlp": anatomy.parallel,
            "d_model": anatomy.d_model,
        },
        "nodes": {name: {"in_graph": name in inside} for name in nodes},
        "edges": {n: {"score": (scores or {}).get(n, 0.5), "in_graph": n in chosen} for n in names},
    }


def loaded(tmp_path, document):
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(document))
    return CircuitGraph.load(path)


@pytest.mark.parametrize("family", GROUPED)
def test_their_circuit_on_grouped_queries_is_as_faithful_as_ours(tmp_path, family):
    model = opened(family)
    assert model.anatomy.n_kv_heads < model.anatomy.n_heads
    pairs = make_pairs()
    ours = circuits.discover(pairs, model=model, top=20)
    assert any(name.endswith(("<k>", "<v>")) for name in ours.edges)
    foreign = loaded(tmp_path, theirs(model.anatomy, set(ours.edges)))
    assert foreign.edges == ours.edges
    mine, other = circuits.evaluate(ours, model, pairs), circuits.evaluate(foreign, model, pairs)
    assert other.circuit == pytest.approx(mine.circuit, abs=1e-6)
    assert other.full == mine.full
    assert other.empty == mine.empty
    assert other.faithfulness == pytest.approx(mine.faithfulness, abs=1e-6)


def test_it_is_compared_and_edited_with_like_any_other(tmp_path):
    model = opened("llama")
    pairs = make_pairs()
    ours = circuits.discover(pairs, model=model, top=20)
    foreign = loaded(tmp_path, theirs(model.anatomy, set(ours.edges[3:])))
    for one, other in ((ours, foreign), (foreign, ours)):
        assert one.diff(other).jaccard == pytest.approx(1 - 3 / len(ours))
        assert one.union(other).info.unknown == ()
        assert one.union(other).info.anatomy == ours.info.anatomy
    with circuits.editing(model, circuits.keep(foreign)) as edited:
        kept = edited.logits(pairs)
    with circuits.editing(model, circuits.keep(ours.minus(ours.minus(foreign)))) as edited:
        assert (kept == edited.logits(pairs)).all()
    scores = circuits.score(model, pairs)
    found = circuits.evaluate_held_out(ours, scores, model, pairs, reference=foreign)
    if found.agreement is not None:
        assert found.agreement.recall == 1.0


def test_what_is_unknown_stays_unknown_in_our_files(tmp_path):
    model = opened("llama")
    foreign = loaded(tmp_path, theirs(model.anatomy, {"input->m0", "m0->logits"}))
    assert foreign.info.unknown == ("d_head", "d_mlp", "n_kv_heads")
    for suffix in (".json", ".graphml", ".mib.json"):
        foreign.save(tmp_path / f"again{suffix}")
        again = CircuitGraph.load(tmp_path / f"again{suffix}")
        assert again == foreign
        assert not again.info.differences(model.anatomy.shape)
    assert not foreign.top(1).info.differences(model.anatomy.shape)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("n_layers", 7, "n_layers 7, given 2"),
        ("n_layers", 1, "n_layers 1, given 2"),
        ("n_heads", 2, "n_heads 2, given 4"),
        ("n_heads", 8, "n_heads 8, given 4"),
        ("d_model", 64, "d_model 64, given 32"),
        ("parallel_attn_mlp", True, "parallel True, given False"),
    ],
)
def test_a_wrong_shape_is_refused_by_the_number_that_differs(tmp_path, field, value, told):
    model = opened("llama")
    pairs = make_pairs()
    document = theirs(model.anatomy, {"m0->logits"})
    document["cfg"][field] = value
    document["edges"] = {"m0->logits": {"score": 1.0, "in_graph": True}}
    document["nodes"] = {name: {"in_graph": True} for name in ("input", "m0", "logits")}
    foreign = loaded(tmp_path, document)
    ours = circuits.discover(pairs, model=model, top=4)
    with pytest.raises(SiteError, match=f"of another model: {told}$"):
        circuits.evaluate(foreign, model, pairs)
    with pytest.raises(ModelError, match=told):
        check_same_model("", foreign.info, model)
    for act in (foreign.diff, foreign.union, foreign.minus):
        with pytest.raises(FormatError, match=told.split(",")[0]):
            act(ours)
    for edit in (circuits.keep(foreign), circuits.remove(foreign), circuits.scale(foreign, 2)):
        with (
            pytest.raises(EditError, match=f"of another model: {told}$"),
            circuits.editing(model, edit),
        ):
            pass
    scores = circuits.score(model, pairs)
    with pytest.raises(FormatError, match="models of different shape"):
        circuits.evaluate_held_out(ours, scores, model, pairs, reference=foreign)


def test_our_own_circuit_of_other_key_heads_is_another_shape():
    model = opened("llama")
    ours = circuits.discover(make_pairs(), model=model, top=4)
    assert ours.info.unknown == ()
    other = opened("gpt2")
    told = ours.info.differences(other.anatomy.shape)
    assert any(name.startswith("family") for name in told)


def test_the_command_line_evaluates_a_file(tmp_path):
    model = circuits.load_model("nano")
    graph = circuits.discover("ioi", model=model, n=4, top=60)
    path = tmp_path / "eap.json"
    path.write_text(json.dumps(theirs(model.anatomy, set(graph.edges))))
    options = ["evaluate", str(path), "--model", "nano", "--task", "ioi", "--n", "8"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=8, seed=0)
    assert f"{circuits.evaluate(graph, model, pairs).faithfulness:.1%}" in done.stdout
    refused = CliRunner().invoke(app, options[:2])
    assert isinstance(refused.exception, RunError) or refused.exit_code == 2
    assert "--model" in refused.output


@pytest.mark.parametrize("model", ["nano", "smollm2-135m", "gemma3-270m"])
def test_a_wrong_shape_is_found_before_weights_are_opened(shared, monkeypatch, model):
    if model != "nano":
        needs_package(model)
    monkeypatch.setattr(circuits.models, "load_model", None)
    path = shared / "cases" / "foreign_circuit.json"
    options = ["evaluate", str(path), "--model", model, "--task", "ioi"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 2, done.output
    layers = {"nano": 4, "smollm2-135m": 30, "gemma3-270m": 18}[model]
    assert f"this circuit is of another model: n_layers 12, given {layers}" in done.output


def test_a_file_of_a_model_states_its_shape(tmp_path):
    path = tiny_gguf.write(tmp_path / "tiny.gguf", tiny_gguf.llama())
    shape = {"n_layers": tiny_gguf.LAYERS, "n_heads": tiny_gguf.HEADS, "d_model": tiny_gguf.WIDTH}
    assert stated_shape(str(path)) == shape
    path.write_bytes(path.read_bytes()[:90])
    assert stated_shape(str(path)) == stated_shape("someone/model") == {}


@pytest.mark.parametrize("family", [*CONFIGS, *MORE])
def test_what_a_configuration_states_is_the_shape_of_its_model(family):
    anatomy, stated = opened(family).anatomy, shape_of_config(build(family).config.to_dict())
    assert {"n_layers", "d_model"} <= stated.keys()
    assert contradictions(stated, anatomy.shape) == []


def test_a_plan_knows_what_its_circuit_states(tmp_path):
    document = theirs(opened("llama").anatomy, {"m0->logits"})
    document["cfg"]["n_layers"] = 7
    edit = circuits.keep(loaded(tmp_path, document))
    assert edit.shape["n_layers"] == 7
    assert "n_kv_heads" not in edit.shape
    plan = circuits.EditPlan(model="0" * 64, basis="raw", edits=edit)
    plan.save(tmp_path / "plan.json")
    assert circuits.read_plan(tmp_path / "plan.json") == plan
    odd = edit.model_copy(update={"shape": {"n_layer": 7}})
    with pytest.raises(EditError, match="number of a model 'n_layer'"):
        circuits.EditPlan(model="0" * 64, basis="raw", edits=odd).check()


def test_the_circuit_of_the_case_fits_its_model(shared):
    graph = CircuitGraph.load(shared / "cases" / "foreign_circuit.json")
    gpt2 = circuits.load_model("nano").anatomy
    assert graph.info.differences(gpt2.shape) == [
        "n_layers 12, given 4",
        "n_heads 12, given 4",
        "d_model 768, given 128",
    ]
    assert to_mib(graph)
