"""Training, checking, studying and reading a dictionary of the embedded model, from end to end."""

import json

import numpy as np
import pytest
import torch

import circuits
from circuits.dictionaries.meaning import latent
from circuits.dictionaries.quality import check_quality, prompts_for, quality
from circuits.dictionaries.study import latents
from circuits.dictionaries.text import text_rows
from circuits.dictionaries.training import checkpoint_of, train_dictionary
from patching.dictionaries.latent_run import Kept, LatentRunner
from patching.dictionaries.train import Recipe, Training, train
from patching.runs import Batch
from tasks.errors import MethodError, RunError, SiteError, TaskError

SMALL = {"latents": 96, "k": 6, "steps": 300, "batch": 256, "rate": 5e-3, "tokens": 3000, "n": 8}


@pytest.fixture(scope="module")
def nano():
    return circuits.load_model("nano")


@pytest.fixture(scope="module")
def folder(nano, tmp_path_factory):
    out = tmp_path_factory.mktemp("dictionaries") / "sae"
    train_dictionary(nano, "resid_post.1", **SMALL, out=out)
    return out


def test_training_explains_more_and_more_and_starts_alike(nano):
    x = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0)) @ torch.randn(
        16, 16, generator=torch.Generator().manual_seed(1)
    )
    recipe = Recipe(latents=64, k=8, steps=200, batch=256)
    one, two = Training.start(recipe, x), Training.start(recipe, x)
    first = one.advance()["explained"]
    assert two.advance()["explained"] == first
    assert train(one).advance()["explained"] > first + 0.2


def test_a_killed_training_goes_on_bit_for_bit(tmp_path):
    x = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    recipe = Recipe(latents=32, k=4, steps=12, batch=64)
    whole = train(Training.start(recipe, x))
    part = Training.start(recipe, x)
    for _ in range(5):
        part.advance()
    part.save(tmp_path / "checkpoint.safetensors", "about")
    again = Training.start(recipe, x)
    again.load(tmp_path / "checkpoint.safetensors", "about")
    train(again)
    assert all(torch.equal(whole.weights[n], again.weights[n]) for n in whole.weights)
    with pytest.raises(RunError, match="another training"):
        Training.start(recipe, x).load(tmp_path / "checkpoint.safetensors", "else")


def test_a_trained_dictionary_is_a_folder_with_its_card(nano, folder):
    card = json.loads((folder / "card.json").read_text())
    assert card["recipe"]["latents"] == 96
    assert card["trained_on"]["model_hash"] == nano.hash
    assert not checkpoint_of(folder).exists()
    found = circuits.load_dictionary(folder)
    assert (str(found.writes), found.n_latents, found.k) == ("resid_post.1", 96, 6)
    measured = quality(nano, found, prompts_for(nano, ["ioi"], n=8, seed=97)[0])
    assert 0.5 < measured.explained < 1
    assert measured.per_token <= 6
    with pytest.raises(RunError, match="holds a dictionary already"):
        train_dictionary(nano, "resid_post.1", **SMALL, out=folder)


def test_a_transcoder_is_measured_where_it_writes(nano, tmp_path):
    made = train_dictionary(nano, "m1", kind="skip-transcoder", **SMALL, out=tmp_path / "t")
    found = circuits.load_dictionary(tmp_path / "t")
    assert (str(found.reads), str(found.writes)) == ("mlp_normed.1", "mlp_out.1")
    assert found.skip is not None
    assert made.quality.place == "mlp_out.1"


def test_all_latents_and_errors_are_the_clean_run_and_none_the_corrupted(nano, folder):
    pairs = circuits.load_task("ioi").pairs(nano.tokenizer, n=4, seed=0)
    batch, given = Batch.of(nano, pairs), circuits.load_dictionary(folder)
    runner = LatentRunner.of(nano, batch, [given])
    whole = {given.writes: Kept(torch.ones(1, 96, dtype=torch.bool), error=True)}
    none = {given.writes: Kept(torch.zeros(1, 96, dtype=torch.bool))}
    with torch.no_grad():
        clean, corrupted = (nano.run(t, batch.mask) for t in (batch.clean, batch.corrupted))
    torch.testing.assert_close(runner.logits(whole), clean, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(runner.logits(none), corrupted, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("positions", ["all", "named"])
def test_a_study_tests_its_latents_on_other_prompts(nano, folder, tmp_path, positions):
    out = tmp_path / "study"
    found = latents(
        nano, "ioi", [str(folder)], n=6, held_out=6, sizes=(5, 96), positions=positions, out=out
    )
    assert found.held_out == 6
    if positions == "all":
        total = found.scores.values.sum()
        assert total == pytest.approx(found.scores.total_effect, rel=1e-3)
        with_errors = next(c for c in found.curves if c.name == "latents and errors")
        assert with_errors.outcomes.faithfulness[-1] > max(
            0.8, with_errors.outcomes.faithfulness[0]
        )
    told = json.loads((out / "latents.json").read_text())
    assert told["kind"] == "circuits latents"
    assert np.isfinite(told["curves"][0]["faithfulness"]).all()
    assert "kept alone" in (out / "latents.md").read_text()


def test_what_a_latent_answers_to(nano, folder):
    given = [circuits.load_dictionary(folder)]
    name = max(
        (given[0].latent(j) for j in range(8)),
        key=lambda each: latent(nano, given, each, tokens=600).fires,
    )
    found = latent(nano, given, name, tokens=600, top=3)
    assert 0 < found.fires <= found.tokens
    amounts = [context.amount for context in found.contexts]
    assert amounts == sorted(amounts, reverse=True)
    assert found.out[0][1] > 0 > found.against[0][1]
    assert sum(share for _, share in found.tokens_of) <= 1 + 1e-6
    with pytest.raises(SiteError, match="there is no latent"):
        latent(nano, given, "resid_post.1.f96")


def test_text_comes_from_tasks_files_and_the_model(nano, tmp_path):
    (tmp_path / "text.txt").write_text("Mary and John went to the shop.\n\nThe cat sat.\n")
    assert len(text_rows(nano, str(tmp_path / "text.txt"), 1000)) == 2
    own = text_rows(nano, "model", 100)
    assert own == text_rows(nano, "model", 100)
    assert sum(map(len, text_rows(nano, "tasks", 500))) >= 500
    with pytest.raises(TaskError, match="there is no text"):
        text_rows(nano, "nowhere.txt", 10)


def test_what_cannot_be_meant_is_refused_before_anything_is_read():
    with pytest.raises(MethodError, match="only 8 latents"):
        train_dictionary("nano", latents=8, k=9)
    with pytest.raises(MethodError, match="unknown kind of dictionary"):
        train_dictionary("nano", kind="saee")
    with pytest.raises(SiteError, match="takes an MLP apart"):
        train_dictionary("nano", "resid_post.1", kind="transcoder")


def test_a_dictionary_that_explains_little_is_refused_unless_forced(nano, folder):
    given = circuits.load_dictionary(folder)
    wrong = type(given)(**{**vars(given), "W_dec": -given.W_dec})
    found = quality(nano, wrong, prompts_for(nano, ["ioi"], n=4)[0])
    assert found.explained < 0.5
    with pytest.raises(MethodError, match="force"):
        check_quality(found)
    check_quality(found, force=True)


def test_the_strongest_latents_are_joined_as_a_circuit(nano, folder, tmp_path):
    study = latents(
        nano,
        "ioi",
        [str(folder)],
        n=4,
        held_out=4,
        sizes=(5,),
        edges=4,
        out=tmp_path / "joined",
        force_dictionary=True,
    )
    found = study.edges
    into = dict.fromkeys(found.scores, 0.0)
    for (_, receiver), value in found.edges.items():
        into[receiver] += value
    for name, score in found.scores.items():
        whole = into[name] + found.rest[name] + found.selection[name]
        assert whole == pytest.approx(score, abs=1e-5)
    # One stream is a complete cut: its latents and its error carry all of the answer.
    assert found.scores["logits"] == pytest.approx(study.scores.total_effect, abs=1e-3)
    names = {name for name in study.circuit.nodes if ".f" in name}
    assert len(names) == 4
    assert circuits.CircuitGraph.load(tmp_path / "joined") == study.circuit
    report = json.loads((tmp_path / "joined" / "latents.json").read_text())
    assert report["edges"]["scores"] == found.scores
