"""The recipe: reproducible, resumable bit for bit, and refusing what it cannot train on."""

import json
from math import log

import numpy as np
import pytest
import torch

from circuits.nano.card import write_model
from circuits.nano.command import main
from circuits.nano.measure import Share
from circuits.nano.recipe import Recipe
from circuits.nano.sources import SOURCES, Source, Text, sources
from circuits.nano.sources_ioi import IOIText
from circuits.nano.train import CHECKPOINT, IGNORED, Run, batch_of, text_loss, train
from circuits.nano.words import build_tokenizer, vocabulary
from tasks.errors import RunError, TaskError

TINY = Recipe(steps=4, layers=1, heads=2, width=16, context=32)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(IOIText, "batch", 4)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return run.model.state_dict()


def assert_equal(one: Run, other: Run) -> None:
    assert one.step == other.step
    for name, value in weights(one).items():
        assert torch.equal(value, weights(other)[name]), name


def test_the_same_recipe_gives_the_same_weights(tmp_path):
    first, second = (train(TINY, tmp_path / name) for name in "ab")
    assert_equal(first, second)
    other = train(
        Recipe(**{**TINY.to_json(), "tasks": ("ioi",), "betas": (0.9, 0.98), "seed": 1}),
        tmp_path / "c",
    )
    assert not torch.equal(weights(first)["lm_head.weight"], weights(other)["lm_head.weight"])


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    Run.start(TINY).advance()
    assert torch.equal(torch.rand(1), expected)


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    whole = train(TINY, tmp_path / "whole")
    monkeypatch.setattr("circuits.nano.train.CHECKPOINT_EVERY", 1)

    def interrupt(step, name, loss):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path / "cut", report=interrupt)
    cut = train(TINY, tmp_path / "cut", resume=True)
    assert_equal(whole, cut)


def test_no_minutes_pause_before_the_first_step(tmp_path):
    assert train(TINY, tmp_path, minutes=0).step == 0
    assert_equal(train(TINY, tmp_path, resume=True), train(TINY, tmp_path / "whole"))


def test_a_checkpoint_is_not_overwritten_without_resume(tmp_path):
    train(TINY, tmp_path, minutes=0)
    with pytest.raises(RunError, match="go on with --resume"):
        train(TINY, tmp_path)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    train(TINY, tmp_path, minutes=0)
    with pytest.raises(RunError, match="written by another recipe"):
        train(Recipe(steps=5, layers=1, heads=2, width=16, context=32), tmp_path, resume=True)


def test_an_interrupted_checkpoint_leaves_the_last_one(tmp_path, monkeypatch):
    run = Run.start(TINY)
    run.save(tmp_path / CHECKPOINT)
    before = (tmp_path / CHECKPOINT).read_bytes()
    run.advance()

    def broken(state, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(KeyboardInterrupt):
        run.save(tmp_path / CHECKPOINT)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_the_loss_is_that_of_the_whole_text_and_of_the_answer():
    source = IOIText()
    tokenizer = build_tokenizer(["a b c"], 32)
    ids, answers = batch_of(tokenizer, [Text("a b", " c"), Text("a", "")], 32)
    assert ids.tolist()[1][3:] == [IGNORED] * 2
    assert (answers != IGNORED).sum() == 1
    uniform = torch.zeros(*ids.shape, len(tokenizer))
    assert text_loss(uniform, ids, answers, source).item() == pytest.approx(2 * log(len(tokenizer)))
    certain = uniform.clone()
    for row in range(2):
        for at, token in enumerate(ids[row, 1:].tolist()):
            certain[row, at, max(token, 0)] = 50.0
    assert text_loss(certain, ids, answers, source).item() == pytest.approx(0, abs=1e-6)
    certain[0, 2] = 0.0
    source.text_weight = 0.0
    assert text_loss(certain, ids, answers, source).item() == pytest.approx(log(len(tokenizer)))


def test_plain_text_has_no_answer_loss():
    tokenizer = build_tokenizer(["a b c"], 32)
    ids, answers = batch_of(tokenizer, [Text("a b c", "")], 32)
    loss = text_loss(torch.zeros(*ids.shape, len(tokenizer)), ids, answers, IOIText())
    assert loss.item() == pytest.approx(log(len(tokenizer)))


@pytest.mark.parametrize("text", [Text("a zebra", " b"), Text("a" + " b" * 40, " c")])
def test_text_that_the_model_cannot_hold_is_refused(text):
    with pytest.raises(TaskError, match="words outside its source's vocabulary"):
        batch_of(build_tokenizer(["a b c"], 32), [text], 32)


def test_the_rate_rises_then_falls_to_zero():
    recipe = Recipe(steps=1000, rate=1e-3)
    rates = [recipe.rate_at(step) for step in range(1000)]
    assert rates[199] == max(rates) == 1e-3
    assert rates[:200] == sorted(rates[:200])
    assert rates[200:] == sorted(rates[200:], reverse=True)
    assert rates[-1] == 0.0


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"heads": 3}, {"seed": -1}])
def test_a_recipe_that_fits_nothing_is_refused(wrong):
    with pytest.raises(TaskError, match="a width that the heads divide"):
        Recipe(**wrong)


def test_sources_are_found_by_name_once_each():
    assert [source.name for source in sources(list(SOURCES))] == list(SOURCES)
    with pytest.raises(TaskError, match="unknown training text 'iio'; did you mean 'ioi'"):
        sources(["iio"])
    with pytest.raises(TaskError, match="give each name once"):
        sources(["ioi", "ioi"])
    with pytest.raises(TaskError, match="give each name once"):
        sources([])


@pytest.mark.parametrize("name", list(SOURCES))
def test_every_source_samples_its_own_vocabulary_reproducibly(name):
    (source,) = sources([name])
    assert isinstance(source, Source)
    assert source.about
    tokenizer = build_tokenizer(source.vocabulary(), 128)
    texts = source.sample(np.random.default_rng(0), 50)
    assert texts == source.sample(np.random.default_rng(0), 50)
    assert texts != source.sample(np.random.default_rng(1), 50)
    batch_of(tokenizer, texts, 128)
    for text in texts:
        whole = text.prompt + text.answer
        assert tokenizer.decode(tokenizer.encode(whole, add_special_tokens=False)) == whole


def test_ioi_is_trained_and_measured_on_different_combinations():
    source = IOIText()
    trained = {text.prompt for text in source.sample(np.random.default_rng(0), 500)}
    measured = source.held_out()
    assert len(measured) >= 1000
    assert all(scene.held_out() for scene in measured)
    assert not trained & {scene.text() for scene in measured}
    assert [scene.order for scene in measured].count("ABBA") * 2 == len(measured)


def test_the_vocabulary_has_every_piece_with_and_without_its_space():
    assert vocabulary(["Mary's 12 (a)\n"]) == sorted(
        [
            "\n",
            " ",
            "Mary",
            " Mary",
            "'",
            " '",
            "s",
            " s",
            "12",
            " 12",
            "(",
            " (",
            "a",
            " a",
            ")",
            " )",
        ]
    )


def test_shares_come_with_the_wilson_interval():
    share = Share.of([True] * 98 + [False] * 2)
    assert share.value == 0.98
    low, high = share.interval
    # The bounds solve (p - p0)^2 = z^2 p0 (1 - p0) / n.
    for bound in (low, high):
        assert (0.98 - bound) ** 2 == pytest.approx(1.959964**2 * bound * (1 - bound) / 100)
    assert Share(10, 10).interval[1] == 1.0
    assert Share(0, 10).interval[0] == pytest.approx(0.0, abs=1e-12)


def test_the_command_writes_a_model_with_its_card(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("circuits.nano.sources_ioi.PER_TEMPLATE", 4)
    size = ["--steps", "3", "--layers", "1", "--heads", "2", "--width", "16", "--context", "32"]
    main(["--out", str(tmp_path), *size, "--minutes", "0"])
    assert "paused after step 0 of 3" in capsys.readouterr().out
    main(["--out", str(tmp_path), *size, "--resume"])
    names = {file.name for file in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert {"README.md", "recipe.json"} <= names
    assert CHECKPOINT not in names
    assert not any(name.startswith(".") for name in names)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o644}
    record = json.loads((tmp_path / "recipe.json").read_text())
    overall = record["measured"]["ioi"]["top-1 is IO, all"]
    assert overall["n"] == 4 * len(IOIText().words.templates)
    card = (tmp_path / "README.md").read_text()
    assert f"| top-1 is IO, all | {overall['right'] / overall['n']:.2%} |" in card
    assert "--tasks ioi --out DIR --seed 0 --steps 3" in card


def test_the_command_reports_faults_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--out", str(tmp_path), "--tasks", "oi"])
    assert caught.value.code == 2
    assert "unknown training text 'oi'; did you mean 'ioi'?" in capsys.readouterr().out


def test_a_model_directory_is_complete_or_absent(tmp_path, monkeypatch):
    run = Run.start(TINY)

    def broken(run, measured):
        raise KeyboardInterrupt

    monkeypatch.setattr("circuits.nano.card.card", broken)
    with pytest.raises(KeyboardInterrupt):
        write_model(run, tmp_path, {"ioi": {"all": Share(1, 2)}})
    assert list(tmp_path.iterdir()) == []
