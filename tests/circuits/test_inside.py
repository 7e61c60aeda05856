"""What a page shows of the model at work is what the model does."""

import json
import pickle

import numpy as np
import pytest
import torch

import circuits
from circuits.evaluate import evaluate
from circuits.inside import MOST_HEADS, bare_prompts, look_inside, parts_by_strength
from circuits.view import read_viewed
from graphs.inside import RUNS, Inside, packed, read_inside, unpacked
from graphs.page import to_html
from patching.direct_effect import read_out, unembedded, writes_at_end
from patching.model import Model
from patching.runs import Batch
from patching.sites import head, parse_site
from patching.sweep import Sweep
from tasks.errors import FormatError, SiteError
from tests import definitions, families
from tests.graphs import chromium
from tests.graphs.test_page import embedded
from tests.graphs.test_page_in_browser import PANEL, browser, node, show  # noqa: F401

FAMILIES = ("gpt2", "llama", "gemma2", "gpt_neox", "cohere", "qwen2_moe", "gpt_oss")


@pytest.fixture(scope="module")
def looked():
    """A circuit of nano, its pairs, and what a page shows of them."""
    model = circuits.load_model("nano")
    pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=9, seed=0)
    graph = circuits.discover(pairs, model=model, top=40).with_info(model="nano")
    evaluation = evaluate(graph, model, pairs)
    graph = evaluation.noted(graph)
    return model, pairs, graph, look_inside(graph, model, pairs, evaluation, Sweep.of(8))


def test_words_have_the_model_s_probabilities_in_both_runs_and_in_the_circuit(looked):
    model, pairs, graph, inside = looked
    for row in (0, 5):
        batch = Batch.of(model, pairs[row : row + 1])
        for run in RUNS:
            shares = model.run(batch.tokens(run), batch.mask)[0].double().softmax(-1)
            told = {word.token: getattr(word, run) for word in inside.prompts[row].words}
            assert set(shares.topk(4).indices.tolist()) <= set(told)
            for token, share in told.items():
                assert share == pytest.approx(float(shares[token]), rel=1e-4, abs=1e-9)
        roles = {word.role: word.token for word in inside.prompts[row].words if word.role}
        assert roles == {
            "answer": int(pairs.answer[row, 0]),
            "counterfactual": int(pairs.counterfactual[row, 0]),
        }
        alone = definitions_circuit(model, pairs[row : row + 1], graph)
        for word in inside.prompts[row].words:
            assert word.circuit == pytest.approx(float(alone[word.token]), rel=1e-3, abs=1e-7)


def definitions_circuit(model, pairs, graph):
    """Probabilities of the circuit alone, from the runner that evaluation uses."""
    from patching.circuit_run import CircuitRunner
    from patching.nodes.edges import EdgeSet

    runner = CircuitRunner(model, Batch.of(model, pairs))
    return runner.logits(EdgeSet.of(graph.edges, model.anatomy))[0].double().softmax(-1)


def test_faithfulness_is_known_at_every_step_of_the_page(looked):
    model, pairs, graph, inside = looked
    known = {(point.asked, point.kept): point.faithfulness for point in inside.curve}
    steps = json.loads(to_html(graph, inside).split('id="data">')[1].split("</script>")[0])["steps"]
    assert len(steps) > 4
    assert [step["faithfulness"] for step in steps] == list(known.values())
    (twelve,) = (step for step in steps if step["asked"] == 12)
    alone = evaluate(graph.top(12), model, pairs).faithfulness
    assert twelve["faithfulness"] == pytest.approx(alone, abs=1e-6)


def test_what_is_left_out_is_said(looked):
    _, _, _, inside = looked
    assert inside.notes == ("the first 8 of 9 prompt pairs are shown",)
    assert len(inside.to_json()) < 300_000


def test_the_file_reads_back_and_other_versions_are_refused(looked, tmp_path):
    inside = looked[-1]
    path = tmp_path / "inside.json"
    path.write_text(inside.to_json(), encoding="utf-8")
    assert read_inside(path) == inside
    newer = json.loads(path.read_text()) | {"schema_version": "1.9", "more": 1}
    path.write_text(json.dumps(newer), encoding="utf-8")
    assert read_inside(path).prompts == inside.prompts
    path.write_text(json.dumps(newer | {"schema_version": "2.0"}), encoding="utf-8")
    with pytest.raises(FormatError, match="schema_version"):
        read_inside(path)


@pytest.mark.parametrize("size", [1, 2, 33])
def test_a_pattern_is_packed_to_within_a_hundred_thousandth(size):
    pattern = np.tril(np.random.default_rng(size).random((size, size)))
    assert np.abs(unpacked(packed(pattern)) - pattern).max() < 1e-5
    for wrong in ("A", "AAAA", "AAAAAA=="):
        with pytest.raises(FormatError):
            unpacked(wrong)


@pytest.mark.parametrize("family", FAMILIES)
def test_direct_effects_of_all_parts_add_up_to_the_logits(family):
    model = families.opened(family)
    batch = families.one_batch(model, families.make_pairs(3))
    anatomy = model.anatomy
    heads = [head(layer, h) for layer in range(anatomy.n_layers) for h in range(anatomy.n_heads)]
    parts = [parse_site("input"), *heads]
    parts += [parse_site(f"m{layer}") for layer in range(anatomy.n_layers)]
    logits, writes, final = writes_at_end(model, batch, "clean", parts)
    # What no part writes: biases of the layers' outputs, and of the final norm.
    rest = final[:, None] - writes.sum(1, keepdim=True)
    direct = unembedded(model, read_out(model, torch.cat([writes, rest], dim=1), final))
    biased = unembedded(model, model.final_norm(torch.zeros_like(final))[:, None])
    whole = (direct.sum(1) + biased[:, 0]).double()
    cap = model.parts.logit_cap
    logits = logits if cap is None else cap * torch.atanh(logits / cap)
    centred = (logits - logits.mean(-1, keepdim=True)).double()
    assert torch.allclose(whole, centred, atol=1e-9)


def test_what_writes_nothing_is_refused(looked):
    model, pairs, *_ = looked
    with pytest.raises(SiteError, match="'logits' writes nothing"):
        writes_at_end(model, Batch.of(model, pairs), "clean", [parse_site("logits")])


def test_the_strongest_heads_come_first(looked):
    graph = looked[2]
    heads = parts_by_strength(graph, ("head",))
    assert {site.name for site in heads} == {n for n in graph.nodes if n.startswith("a")}
    assert len(heads) <= MOST_HEADS
    first = max(
        (
            item
            for item in graph.scored_edges
            if "head" in (item.edge.sender.kind, item.edge.receiver.kind)
        ),
        key=lambda item: abs(item.score),
    )
    assert heads[0] in (first.edge.sender, first.edge.receiver)


def test_a_model_without_a_tokenizer_shows_numbers(looked):
    _, pairs, *_ = looked
    model = Model(circuits.load_model("nano").hf)
    assert bare_prompts(model, pairs)[0].clean[0] == f"#{pairs.clean[0][pairs.mask[0]][0]}"


@pytest.mark.skipif(chromium.find() is None, reason="no Chromium on the PATH")
def test_the_page_shows_the_attention_of_the_head_that_is_clicked(looked, show):  # noqa: F811
    model, pairs, graph, inside = looked
    site = parts_by_strength(graph, ("head",))[0]
    page = show(to_html(graph, inside))
    page.run(node(site.name))
    batch = Batch.of(model, pairs[:1])
    patterns = {
        run: definitions.values(model, batch, run)["pattern", site.layer][0, site.unit].numpy()
        for run in RUNS
    }
    patterns["difference"] = patterns["clean"] - patterns["corrupted"]
    size = len(inside.prompts[0].clean)
    cells = "[...document.querySelectorAll('#attention .cell')].map((c) => Number(c.dataset.value))"
    for look, pattern in patterns.items():
        page.run(
            f"[...document.querySelectorAll('.looks button')]"
            f".find((b) => b.textContent === '{look}').click()"
        )
        shown = np.zeros((size, size))
        shown[np.tril_indices(size)] = page.run(cells)
        bound = 2e-5 if look == "difference" else 1e-5
        assert np.abs(shown - pattern).max() < bound
        assert np.abs(pattern).max() > 0.01
    told = page.run(PANEL)
    for heading in ("attention on this prompt", "direct effect on the words", "raises most"):
        assert heading in told
    word = inside.prompts[0].words[0]
    direct = page.run("document.querySelector('#direct tbody td').textContent")
    assert float(direct.replace("\u2212", "-")) == pytest.approx(
        inside.prompts[0].effects[site.name]["clean"][0], rel=5e-3
    )
    assert word.text in page.run("document.getElementById('words').textContent")


def test_a_run_without_its_inside_or_with_a_broken_one_still_shows_its_circuit(
    looked, tmp_path_factory
):
    graph = looked[2]
    folder = tmp_path_factory.mktemp("old")
    graph.save(folder / "circuit.json")
    assert "holds no prompts" in read_viewed(folder).note
    (folder / "inside.json").write_text("{}", encoding="utf-8")
    assert read_viewed(folder).note == ""
    (folder / "inside.json").write_text("{", encoding="utf-8")
    viewed = read_viewed(folder)
    assert "--look makes the rest anew" in viewed.note
    assert viewed.graph == graph
    (folder / "inside.json").write_text(Inside(circuit="0" * 64).to_json(), encoding="utf-8")
    assert "of another circuit" in read_viewed(folder).note


def test_a_circuit_found_in_memory_shows_its_prompts_name_and_faithfulness():
    model = Model.open(
        circuits.load_model("nano").hf, tokenizer=circuits.load_model("nano").tokenizer
    )
    pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=2, seed=0)
    graph = circuits.discover(pairs, model=model, top=12)
    data = embedded(graph.interactive().page)
    assert data["caption"][0] == "ioi on in memory"
    assert len(data["prompts"]) == 2
    assert data["prompts"][1]["words"]
    assert all(step["faithfulness"] is not None for step in data["steps"])
    assert pickle.loads(pickle.dumps(graph)) == graph
    smaller = embedded(graph.top(5).interactive().page)
    assert [p["clean"] for p in smaller["prompts"]] == [p["clean"] for p in data["prompts"]]
