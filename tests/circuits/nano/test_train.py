"""The recipe: reproducible, resumable bit for bit, and refusing what it cannot train on."""

import json
from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch

from circuits.nano.batches import chunks_of, rows_of
from circuits.nano.card import write_model
from circuits.nano.command import main
from circuits.nano.losses import backward
from circuits.nano.recipe import Recipe
from circuits.nano.sources import SOURCES, Source, Text, sources
from circuits.nano.sources_ioi import IOIText
from circuits.nano.train import CHECKPOINT, Run, train
from circuits.nano.words import build_tokenizer, vocabulary
from circuits.results.intervals import Proportion
from tasks.errors import RunError, TaskError

SIZES = {"tasks": ("ioi",), "layers": 1, "heads": 2, "width": 16, "context": 32, "turns": (2, 3)}
TINY = Recipe(**SIZES, steps=4, texts=(4, 6, 6))


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
        replace(TINY, seed=1),
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

    def interrupt(step, losses):
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
        train(replace(TINY, steps=5), tmp_path, resume=True)


def test_an_interrupted_checkpoint_leaves_the_last_one(tmp_path, monkeypatch):
    run = Run.start(TINY)
    run.save(tmp_path / CHECKPOINT)
    before = (tmp_path / CHECKPOINT).read_bytes()
    run.advance()

    def broken(state, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(KeyboardInterrupt):
        run.save(tmp_path / CHECKPOINT)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


class Fixed(torch.nn.Module):
    """Logits that depend on nothing: `scores` for every token, so that losses are known."""

    def __init__(self, scores):
        super().__init__()
        self.scores = torch.nn.Parameter(torch.as_tensor(scores, dtype=torch.float32))

    def forward(self, ids, chosen, low):
        assert not low
        return self.scores.expand(int(chosen.sum()), -1)


def losses_of(texts, scores_of, **settings):
    """The loss of a step that holds these texts of one source, given the tokens' scores."""
    source = IOIText()
    source.text_part = 1.0
    for name, value in settings.items():
        setattr(source, name, value)
    tokenizer = build_tokenizer(["a b c"], 32)
    rows = rows_of(tokenizer, texts, 32)
    chunks = list(chunks_of(rows, [0] * len(rows), [1.0], np.random.default_rng(0), size=1))
    network = Fixed(scores_of(tokenizer))
    (loss,) = backward(network, chunks, [source], low=False)
    return loss, network.scores.grad


def test_the_loss_is_the_answers_plus_the_weighted_texts():
    """With two words likely, p = 1/2 each, and the others impossible: every loss is log 2 or 60."""

    def scores(tokenizer):
        found = np.full(len(tokenizer), -60.0)
        found[[tokenizer.convert_tokens_to_ids(" c"), tokenizer.eos_token_id]] = 0.0
        return found

    texts = [Text("", " c"), Text("", " c c")]
    loss, _ = losses_of(texts, scores, text_weight=0.0)
    assert loss == pytest.approx(log(2))
    loss, _ = losses_of(texts, scores, text_weight=0.5)
    assert loss == pytest.approx(1.5 * log(2))
    # Of five tokens that are predicted one is impossible, and it is no part of an answer.
    loss, _ = losses_of([Text(" a", " c"), Text("", " c")], scores, text_weight=1.0)
    assert loss == pytest.approx(log(2) + (4 * log(2) + 60 + log(2)) / 5)


def test_plain_text_has_no_answer_loss():
    loss, _ = losses_of([Text("a b c", "")], lambda tokenizer: np.zeros(len(tokenizer)))
    assert loss == pytest.approx(log(len(build_tokenizer(["a b c"], 32))))


def test_the_gradient_counts_a_source_by_its_weight():
    texts, zeros = [Text("a", " b"), Text("a b", " c")], lambda tokenizer: np.zeros(len(tokenizer))
    (one, grad_one), (two, grad_two) = (losses_of(texts, zeros, weight=w) for w in (1.0, 2.0))
    assert one == pytest.approx(two)
    torch.testing.assert_close(2 * grad_one, grad_two)


def test_chunks_hold_every_text_once_by_length():
    tokenizer = build_tokenizer(["a b c"], 32)
    texts = [Text("a" + " b" * n, " c") for n in (5, 1, 3, 0)]
    rows = rows_of(tokenizer, texts, 32)
    chunks = list(chunks_of(rows, [3, 2, 1, 0], [1.0] * 4, np.random.default_rng(0), size=2))
    assert [chunk.ids.shape for chunk in chunks] == [(2, 5), (2, 9)]
    assert [chunk.owner.tolist() for chunk in chunks] == [[0, 2], [1, 3]]
    for chunk in chunks:
        assert (chunk.answer.sum(axis=1) == 1).all()
        assert tokenizer.decode(chunk.ids[:, 1:][chunk.answer]) == " c c"
        # Everything after the first token, up to the end of the sequence, is predicted.
        ends = (chunk.ids == tokenizer.eos_token_id).argmax(axis=1)
        assert chunk.text.sum(axis=1).tolist() == ends.tolist()


def test_a_part_of_the_text_is_looked_at_and_all_of_the_answer():
    tokenizer = build_tokenizer(["a b c"], 64)
    rows = rows_of(tokenizer, [Text("a" + " b" * 50, " c")] * 40, 64)
    (chunk,) = chunks_of(rows, [0] * 40, [0.25], np.random.default_rng(0))
    assert 0.2 < chunk.text.mean() < 0.3
    assert chunk.answer.sum() == 40


class Early(IOIText):
    shares = (3.0, 1.0, 1.0, 1.0)


class Late(IOIText):
    shares = (1.0, 1.0, 4.0, 1.0)


class Last(IOIText):
    shares = (0.0, 0.0, 2.0, 1.0)


def test_a_turn_changes_how_many_texts_each_source_has():
    run = Run.start(replace(TINY, tasks=("ioi",), texts=(20, 10, 20)))
    run.sources = [Early(), Late()]
    assert run.counts() == [15, 5]
    run.step = run.recipe.turns[0]
    assert run.counts() == [5, 5]
    run.step = run.recipe.turns[1]
    assert run.counts() == [4, 16]


def test_a_phase_in_which_no_chosen_source_has_texts_is_like_the_next():
    run = Run.start(replace(TINY, tasks=("ioi",), texts=(20, 10, 20)))
    run.sources = [Last(), Last()]
    assert run.phases() == [[10, 10], [5, 5], [10, 10]]


def test_the_networks_numbers_are_the_models():
    """The quick forward pass, in fp32, gives the logits of the GPT-2 that is written."""
    run = Run.start(replace(TINY, tasks=("ioi",)))
    run.advance()
    run.network.settle()
    ids = torch.tensor([[1, 8, 9, 10, 30], [1, 40, 41, 42, 43]])
    chosen = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        quick = run.network(ids, chosen, low=False).view(2, 5, -1)
        slow = run.model(input_ids=ids).logits
        rough = run.network(ids, chosen, low=True).view(2, 5, -1)
    torch.testing.assert_close(quick, slow, rtol=1e-4, atol=1e-5)
    assert 0 < (rough - slow).abs().max() < 0.05 * slow.abs().max() + 0.05


def test_a_word_without_its_space_differs_by_what_all_such_words_share():
    run = Run.start(TINY)
    run.advance()
    run.network.settle()
    table = run.model.transformer.wte.weight.detach()
    ids = run.tokenizer.get_vocab()
    shared = [table[ids[word]] - table[ids[f" {word}"]] for word in ("Mary", "park", ".")]
    assert shared[0].abs().max() > 0
    for other in shared[1:]:
        torch.testing.assert_close(other, shared[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("text", [Text("a zebra", " b"), Text("a" + " b" * 40, " c")])
def test_text_that_the_model_cannot_hold_is_refused(text):
    with pytest.raises(TaskError, match="words outside its source's vocabulary"):
        rows_of(build_tokenizer(["a b c"], 32), [text], 32)


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
    assert len(rows_of(tokenizer, texts, 128)) == 50
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
    share = Proportion.of([True] * 98 + [False] * 2)
    assert share.value == 0.98
    low, high = share.interval
    # The bounds solve (p - p0)^2 = z^2 p0 (1 - p0) / n.
    for bound in (low, high):
        assert (0.98 - bound) ** 2 == pytest.approx(1.959964**2 * bound * (1 - bound) / 100)
    assert Proportion(10, 10).interval[1] == 1.0
    assert Proportion(0, 10).interval[0] == pytest.approx(0.0, abs=1e-12)


def test_the_command_writes_a_model_with_its_card(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("circuits.nano.sources_ioi.PER_TEMPLATE", 4)
    size = [
        "--tasks",
        "ioi",
        "--steps",
        "3",
        "--layers",
        "1",
        "--heads",
        "2",
        "--width",
        "16",
        "--context",
        "32",
    ]
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
        write_model(run, tmp_path, {"ioi": {"all": Proportion(1, 2)}})
    assert list(tmp_path.iterdir()) == []
