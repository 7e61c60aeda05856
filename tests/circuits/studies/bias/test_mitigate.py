"""Mitigation on a tiny random model with a letter bias put into it."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.edits import edit as e
from circuits.edits.live import editing
from circuits.edits.plan import read_plan
from circuits.studies.bias import items as mcq_items
from circuits.studies.bias import mitigate, recipes, unibias
from circuits.studies.bias import search as edit_search
from circuits.studies.bias.answers import agreement, answer, imbalance
from circuits.studies.bias.controls import aimed_elsewhere, random_changes
from circuits.studies.bias.folder import carry_out
from circuits.studies.bias.localise import localise_bias
from circuits.studies.bias.paper_edit import paper_edit
from patching.forward import Record
from patching.model import Model
from patching.weights import changed_weights, value_vectors
from tasks.errors import RunError, TaskError
from tasks.mcq_bias import MCQBias
from tasks.questions import bank

SETTINGS = mitigate.Settings(train=16, test=16, others=9)
pytestmark = pytest.mark.usefixtures("_few_candidates")


def quiet(done, total, what):
    pass


def test_every_option_stands_at_every_letter_once(biased, material):
    k = material.train.n_options
    golds = material.train.gold.reshape(-1, k)
    assert (np.sort(golds, axis=1) == np.arange(k)).all()
    assert np.bincount(material.test.gold).tolist() == [4, 4, 4, 4]
    test = set(material.test.questions)
    assert not test & set(material.train.questions)


def test_the_planted_vector_is_found_and_removing_it_helps(biased, material):
    bias = mitigate.where(biased, material.train, n=6)
    assert bias.difference > 0
    assert bias.neurons[0].name == "m1.n7"
    assert bias.neurons[0].tokens[0] == " A"
    with editing(biased, e.remove("m1.n7")):
        after = mitigate.where(biased, material.train, n=6)
    assert bias.difference - after.difference == pytest.approx(bias.neurons[0].effect, abs=1e-4)
    assert set(bias.to_frame().columns) >= {"gap", "direct", "effect", "found", "tokens"}


def test_direct_shares_add_up(biased, material):
    """All heads, all MLPs, and the input together make the difference, less the norm's bias."""
    first = mitigate.where(biased, material.train, n=4)
    with pytest.raises(TaskError, match="gold=never_A"):
        pairs = mitigate.PromptPairs.from_tokens(
            clean=material.train.tokens[:1],
            corrupted=material.train.tokens[1:2],
            answer=[[material.train.letters[0]]],
            counterfactual=[[material.train.letters[1]]],
            mask=material.train.mask[:1],
        )
        localise_bias(biased, pairs)
    whole = {part.name: part.direct for part in first.parts if ".n" not in part.name}
    assert sum(whole.values()) == pytest.approx(first.difference, abs=0.5)


def test_least_squares_takes_the_prior_out_and_spares_other_keys(biased, material, evidence):
    (edit,) = next(c.edits for c in recipes.least_squares(evidence, 1) if c.strength == 1.0)
    keys = torch.tensor(edit.keys)
    key, moment = evidence.post[1].mean(0), evidence.keys[1]
    assert float(keys @ key) == pytest.approx(1.0, abs=1e-3)
    plain = key / (key @ key)
    assert float(keys @ moment @ keys) <= float(plain @ moment @ plain) + 1e-6
    before = answer(biased, material.train).letters
    with editing(biased, edit, evidence.basis):
        after = answer(biased, material.train).letters
    gap = lambda x: float((x[:, 0] - x[:, 1:].mean(1)).mean())  # noqa: E731
    assert abs(gap(after)) < 0.3 * abs(gap(before))


def test_label_free_scores_know_bias_from_balance():
    always_a = np.zeros((6, 4), dtype=int)
    chosen = (always_a - np.arange(4)) % 4
    assert agreement(chosen) == 0.25
    assert imbalance(always_a.ravel(), 4) == 0.75
    assert agreement(np.full((6, 4), 2)) == 1.0
    assert imbalance(np.arange(8) % 4, 4) == 0.0
    assert imbalance(np.full(8, -1), 4) == 1.0
    assert agreement(np.full((6, 4), -1)) == 0.0


def test_what_gains_nothing_for_sure_is_not_chosen(biased, material, evidence):
    """One question of six answered alike is a better score, and may well be chance."""
    bench = edit_search.Bench.of(biased, material.train, material.train_others, evidence.basis)
    top = bench.orders(bench.start).copy()
    assert bench.gain(top).low == 0.0 == bench.gain(top).value
    candidate = recipes.Candidate("chance", (), 1, 1.0)
    k = material.train.n_options
    for changed, sure in ((1, False), (len(top), True)):
        top[:changed] = np.arange(k)
        gain = bench.gain(top)
        assert gain.value > 0
        tried = edit_search.Trial(candidate, gain.value, gain, 1.0, 0.0, harmless=True)
        assert (edit_search.Search(0.0, (tried,)).best is not None) == sure
        assert tried.verdict == ("sure gain" if sure else "gain that may be chance")


def test_unibias_chooses_uneven_and_steady_heads(evidence):
    spoken = torch.zeros(50, 2, 3, 4)
    noise = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    spoken[:, 1, 0] = torch.tensor([4.0, 1.0, 1.0, 1.0]) + 0.01 * noise
    spoken[:, 1, 1] = 2.0 + 0.01 * noise
    spoken[:, 1, 2] = torch.tensor([4.0, 1.0, 1.0, 1.0]) + 9 * noise
    spoken[:, 0, 0] = spoken[:, 1, 0]
    planted = dataclasses.replace(evidence, spoken=spoken, logits=np.full((50, 4), 3.0))
    found = set(unibias.head_sets(planted))
    assert ("a1.h0",) in found
    assert all(set(names) <= {"a1.h0", "a1.h2"} for names in found)


def test_unibias_takes_out_the_best_of_both_together(biased, material, evidence):
    bench = edit_search.Bench.of(biased, material.train, material.train_others, evidence.basis)
    parts = [
        recipes.Candidate(unibias.VECTORS, (e.scale("m1.n7", 0.0),), 1, 1.0),
        recipes.Candidate(unibias.HEADS, (e.scale("a1.h0", 0.0),), 1, 1.0),
    ]
    found = edit_search.search(bench, parts, quiet)
    assert found.recipes == (unibias.VECTORS, unibias.HEADS, unibias.BOTH)
    assert found.tried[-1].candidate.edits == (*parts[0].edits, *parts[1].edits)


def test_heads_spoken_of_are_what_they_write(biased, material, evidence):
    """With the scale held fixed, heads, MLPs and the input together are the letters' logits."""
    batch = slice(0, 3)
    tokens, mask = (torch.tensor(x[batch]) for x in (material.train.tokens, material.train.mask))
    seen = Record(["z", "final_in"])
    with torch.no_grad():
        biased.run(tokens, mask, seen)
    block = biased.blocks[1]
    whole = torch.einsum("bhe,hed->bhd", seen.values["z", 1][:, -1], block.W_O)
    scale = biased.final_norm.scale(seen.values["final_in", 2])
    expected = whole @ evidence.directions.T / scale[:, None]
    torch.testing.assert_close(evidence.spoken[batch, 1], expected, rtol=0, atol=1e-5)


def test_random_controls_have_the_same_norms_and_another_direction(biased):
    edits = (e.add("m1.n7", {" A": -1.0, " B": 0.5}), e.add("m1.n9", {" A": -2.0}))
    before = value_vectors(biased, 1).clone()
    with editing(biased, edits, "raw"):
        moved = value_vectors(biased, 1) - before
    with changed_weights(biased, random_changes(biased, edits, "raw", 0)):
        control = value_vectors(biased, 1) - before
    assert torch.allclose(moved.norm(dim=1), control.norm(dim=1), atol=1e-5)
    assert float(torch.cosine_similarity(moved[7], control[7], dim=0).abs()) < 0.7
    assert aimed_elsewhere(edits)[0].direction.tokens == {" B": -1.0, " A": 0.5}


def test_the_published_edit_writes_the_answer_in(biased, material):
    bias = mitigate.where(biased, material.train, n=4)
    before = answer(biased, material.test).top
    found = paper_edit(biased, material.test, bias, before, (1.0, 800.0))
    assert found.to_json()["uses_answer"] is True
    assert found.every.value > 0.9
    for letter, (accuracy, gold_a, answered) in found.fixed.items():
        assert accuracy.value == pytest.approx(0.25)
        assert gold_a.value == pytest.approx(float(letter == "A"))
        assert answered.value == pytest.approx(1.0)
    assert found.suppressed.value < 0.9 < found.anchored.value
    assert found.other != found.vector


def test_the_whole_of_it(biased, tmp_path):
    card = carry_out(biased, SETTINGS, tmp_path / "out", quiet)
    assert card["chosen"] is not None
    conditions = card["conditions"]
    share = "A share, gold not A"
    assert conditions[card["chosen"]][share]["value"] < conditions["no edit"][share]["value"]
    names = {entry.name for entry in (tmp_path / "out").iterdir()}
    assert names == {"model", "plan.json", "report.json", "report.md", "report.svg"}
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(
        json.dumps(card)
    )
    text = (tmp_path / "out" / "report.md").read_text()
    assert "does not know the answers" in text or "is right on" in text
    plan = read_plan(tmp_path / "out" / "plan.json")
    items = mitigate.prepare(biased, SETTINGS).test
    with plan.applied(biased):
        live = answer(biased, items).letters
    saved = answer(Model.open(tmp_path / "out" / "model"), items).letters
    assert np.allclose(saved, live, atol=1e-4)
    with pytest.raises(RunError, match="replace it with --force"):
        circuits.mitigate(biased, tmp_path / "out")
    assert not list(tmp_path.glob(".*"))


def test_nothing_better_than_doing_nothing_is_said(biased, tmp_path, monkeypatch):
    monkeypatch.setattr(
        mitigate, "candidates", lambda *a: recipes.heads(recipes.every_head(biased))
    )
    monkeypatch.setattr(mitigate, "unibias", lambda *a: [])
    monkeypatch.setattr(edit_search, "harmless", lambda before, after: False)
    card = carry_out(biased, SETTINGS, tmp_path / "out", quiet)
    assert card["chosen"] is None
    assert "No edit was better than doing nothing" in (tmp_path / "out" / "report.md").read_text()
    assert not (tmp_path / "out" / "model").exists()


def test_files_of_questions_are_split_once_and_for_all(shared):
    path = shared / "data" / "mcq" / "ARC-Challenge-Dev.jsonl"
    train = mcq_items.file_questions(path, 0, "train")
    test = mcq_items.file_questions(path, 0, "test")
    assert len({q.stem for q in train} & {q.stem for q in test}) <= 1
    counts = np.bincount([q.gold for q in test])
    assert counts.max() - counts.min() <= 1


def test_rows_of_a_file_that_are_not_asked_are_counted_by_reason(tmp_path, biased):
    rows = [f"What is {i}?,{i},x,y,z,A" for i in range(30)]
    odd = ["What is 0?,0,x,y,z,A", "Which?,a,a,b,c,D", "Who?,d,d,e,f,B", "Whose?,d,e,f,g,K"]
    path = tmp_path / "own.csv"
    path.write_text("\n".join([*rows, *odd]), encoding="utf-8")
    with pytest.raises(TaskError, match="the same option twice"):
        mitigate.Settings(4, 8, file=str(path))
    material = mitigate.prepare(
        biased, mitigate.Settings(4, 8, file=str(path), others=4, skip_bad=True)
    )
    assert material.left_out[:1] == ("left out 2: the same option twice",)
    assert material.left_out[1].startswith("left out 1: answer")
    assert material.left_out[2:] == ("left out 1: the same question again",)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["mitigate", "ioi", "--out", "x"], "unknown mitigation 'ioi'"),
        (["mitigate", "mcq_bias", "--out", "x", "--train", "1"], "at least 4"),
        (["mitigate", "mcq_bias", "--out", "x", "--file", "no.jsonl"], "no file 'no.jsonl'"),
        (["mitigate", "mcq_bias", "--out", "x", "--file", __file__], "looks like plain text"),
        (["edit", "check", "missing.json"], "cannot read"),
        (["edit", "apply", "missing.toml", "--out", "x"], "cannot read"),
    ],
)
def test_commands_refuse_in_words(arguments, says):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert says in done.stderr


def test_commands_check_and_apply_a_plan(biased, tmp_path):
    from circuits.edits.plan import plan_for

    plan_for(biased, (e.remove("m1.n7"),)).save(tmp_path / "plan.json")
    run = CliRunner().invoke
    checked = run(app, ["edit", "check", str(tmp_path / "plan.json"), "--model", biased.path])
    assert checked.exit_code == 0, checked.stderr
    assert "nothing wrong" in checked.stdout
    out = str(tmp_path / "model")
    arguments = ["edit", "apply", str(tmp_path / "plan.json"), "--model", biased.path]
    applied = run(app, [*arguments, "--out", out])
    assert applied.exit_code == 0, applied.stderr
    assert float(value_vectors(Model.open(out), 1)[7].abs().max()) == 0
    again = run(app, [*arguments, "--out", out])
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_letters_cut_off_their_space_are_asked_after_it(shared):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "stories260K")
    path = shared / "data" / "mcq" / "ARC-Challenge-Dev.jsonl"
    items = mcq_items.make_items(tokenizer, mcq_items.file_questions(path, 0, "test")[:3])
    assert [tokenizer.decode([i]) for i in items.letters] == list("ABCD")
    assert items.names == tuple(f"#{i}" for i in items.letters)
    assert tokenizer.decode(items.tokens[0][items.mask[0]]).endswith("Answer: ")


def test_the_bank_has_enough_words_for_random_questions(biased):
    made = mcq_items.random_questions(biased.tokenizer, 5, 0)
    answers = {entry.answer for entry in bank()}
    assert len({q.stem for q in made}) == 5
    assert any(option in answers for q in made for option in q.options)


def test_orders_that_unknown_words_make_alike_are_left_out(biased):
    from tasks.questions import Question

    blank = Question("zzz?", ("qq", "ww", "rr", "vv"), 1)
    known = mcq_items.draw_questions(biased.tokenizer, 2, 0, "train")
    items = mcq_items.make_items(biased.tokenizer, [blank, *known])
    train = mcq_items.in_all_orders(biased.tokenizer, items)
    assert mitigate.where(biased, train).n == 2


@pytest.mark.parametrize(("bos", "chat"), [(None, "template"), (None, "plain"), (True, "")])
def test_questions_are_put_as_the_task_puts_them(smollm2, bos, chat):
    tokenizer = smollm2.tokenizer
    questions = mcq_items.draw_questions(tokenizer, 4, 0, "test")
    items = mcq_items.make_items(tokenizer, questions, bos=bos, chat=chat)
    pairs = MCQBias().pairs(tokenizer, n=4, bos=bos, chat=chat)
    rows = zip(items.tokens, items.mask, strict=True)
    texts = [tokenizer.decode(row[mask]) for row, mask in rows]
    for text, question in zip(texts, questions, strict=True):
        assert question.text() in text
    head, end = pairs.texts[0][0].split("Question:")[0], pairs.texts[0][0].rpartition("Answer:")[2]
    assert all(text.removeprefix("<|im_start|>" * bool(bos)).startswith(head) for text in texts)
    assert all(text.endswith(f"Answer:{end}") for text in texts)
    measured = set(pairs.answer.ravel().tolist()) | set(pairs.counterfactual.ravel().tolist())
    assert measured <= set(items.letters.tolist())
    again = mcq_items.in_all_orders(tokenizer, items)
    assert (again.bos, again.chat, len(again)) == (bos, chat, 16)


def test_a_mitigation_in_chat_turns_says_so(biased, tmp_path):
    given = {"train": 8, "test": 8, "others": 9, "recipes": ["zero"], "chat": "plain", "bos": False}
    card = circuits.mitigate(biased, tmp_path / "out", **given)
    assert (card["settings"]["chat"], card["settings"]["bos"]) == ("plain", False)
    assert "put in a chat turn (plain)" in (tmp_path / "out" / "report.md").read_text("utf-8")


def test_a_template_that_there_is_not_is_refused_before_the_model_is_opened(monkeypatch, tmp_path):
    monkeypatch.setattr("circuits.models.load_model", None)
    options = ["--out", str(tmp_path / "out"), "--chat"]
    done = CliRunner().invoke(app, ["mitigate", "mcq_bias", *options])
    assert done.exit_code == 2
    assert "has no chat template" in done.output
