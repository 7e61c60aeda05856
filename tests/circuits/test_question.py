"""A question without a file, how it is put to a model, and answers that the model does not give."""

import json
import logging
from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.config import Config
from circuits.prompts import fitted, noted_prompts, prompts_of
from circuits.selection.scored import score_by
from circuits.unlikely import unlikely
from patching.scoring import prompt_scores
from tasks import PromptPairs
from tasks.errors import TaskError
from tests.tasks.conftest import WordTokenizer

TEXT = "When Mary and John went to the park, {} gave the ball to"
QUESTION = (TEXT.format("John"), TEXT.format("Mary"), " Mary", " John")


@pytest.fixture(scope="module")
def model():
    return circuits.load_model("nano")


@pytest.fixture(scope="module")
def stories(shared):
    return circuits.load_model(str(shared / "models" / "stories260K"))


def test_a_question_gives_the_circuit_of_its_pair(model):
    graph = circuits.ask(*QUESTION, model, top=30)
    pairs = PromptPairs.from_texts(model.tokenizer, *([text] for text in QUESTION))
    assert graph.edges == circuits.discover(pairs, model, top=30).edges
    assert (graph.info.task, graph.info.prompts) == ("ask", 1)
    assert pairs.clean[0, 0] == model.tokenizer.bos_token_id


def test_several_questions_are_lists(model):
    mirrored = (QUESTION[1], QUESTION[0], QUESTION[3], QUESTION[2])
    columns = [list(texts) for texts in zip(QUESTION, mirrored, strict=True)]
    graph = circuits.ask(*columns, model, top=30)
    assert graph.info.prompts == 2


def test_a_question_that_cannot_be_used_is_refused_by_its_number(model):
    with pytest.raises(TaskError, match=r"question 1: answer and counterfactual are the same"):
        circuits.ask(*QUESTION[:3], QUESTION[2], model)
    with pytest.raises(TaskError, match=r"question 1: .*'Mary' does not follow|outside"):
        circuits.ask(*QUESTION[:2], "Mary", " John", model)
    with pytest.raises(TaskError, match="has no chat template"):
        circuits.ask(*QUESTION, model, chat=True)


def test_a_model_without_a_tokenizer_cannot_be_asked(model):
    silent = circuits.load_model(model.path)
    silent.tokenizer = None
    with pytest.raises(TaskError, match="questions are text, and this model has no tokenizer"):
        circuits.ask(*QUESTION, silent)
    with pytest.raises(TaskError, match="this question is text, and this model has no tokenizer"):
        prompts_of(Config(None, asked=[QUESTION]), silent)


def test_how_texts_begin_is_recorded_and_kept(model):
    begun, bare = (Config("ioi", n=4, bos=bos) for bos in (True, False))
    assert prompts_of(begun, model) == prompts_of(Config("ioi", n=4), model)
    ids = prompts_of(bare, model).clean
    assert model.tokenizer.bos_token_id not in ids
    assert bare.to_json()["bos"] is False
    assert begun.digest() != bare.digest()
    found = circuits.discover("ioi", model, n=4, top=20, bos=False)
    assert found.edges == circuits.discover(prompts_of(bare, model), model, top=20).edges


def test_prompts_that_are_ids_already_take_no_bos_and_no_chat(model):
    pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=2)
    for how in ({"bos": True}, {"chat": True}):
        with pytest.raises(TaskError, match="give bos and chat where they are made"):
            circuits.discover(pairs, model, **how)


def test_a_chat_is_refused_before_a_model_without_template_is_opened():
    with pytest.raises(TaskError, match="has no chat template, so it is no chat model"):
        Config("ioi", chat="template").check()
    Config("ioi", chat="plain").check()
    with pytest.raises(TaskError, match="unknown chat form 'mine'"):
        Config("ioi", chat="mine").check()


def test_a_template_in_a_directory_is_seen(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    Config("ioi", model=str(tmp_path), chat="template").check()
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(TaskError, match="has no chat template"):
        Config("ioi", model=str(tmp_path), chat="template").check()
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    Config("ioi", model=str(tmp_path), chat="template").check()


def test_a_task_and_questions_are_not_both_given():
    with pytest.raises(TaskError, match=r"a task \(ioi\) and questions of your own are given"):
        Config("ioi", asked=[QUESTION]).check()


def test_two_spellings_of_one_token_are_counted_once(stories, shared):
    """The probability of " time" is .9993; counted twice, it would be more than 1."""
    from patching.ablation.run import baselines

    pairs = circuits.load_pairs(shared / "cases" / "twice.jsonl", stories.tokenizer)
    assert baselines(stories, pairs, "log_prob")[0] == pytest.approx(-0.0007, abs=5e-5)
    assert baselines(stories, pairs, "prob_diff")[0] == pytest.approx(0.9993, abs=5e-5)


def test_an_answer_that_the_model_spells_otherwise_is_named(stories, caplog):
    texts = ["Once upon a"], ["One day a"]
    pairs = PromptPairs.from_texts(stories.tokenizer, *texts, [" Time"], [" she"])
    (note,) = unlikely(stories, pairs)
    assert "in 1 of 1 pairs the model gives the right answer a probability below 0.001" in note
    assert "after 'Once upon a' it would write 'time' (1)" in note or "first choice" in note
    usual = PromptPairs.from_texts(stories.tokenizer, *texts, [" time"], [" she"])
    assert unlikely(stories, usual) == ()
    with caplog.at_level(logging.WARNING, logger="circuits"):
        circuits.discover(pairs, stories, top=5)
    assert note in caplog.text


def test_the_first_choice_is_named_where_there_is_no_other_spelling(stories):
    texts = ["Once upon a"], ["One day a"], [" she"], [" he"]
    made = PromptPairs.from_texts(stories.tokenizer, *texts)
    (note,) = unlikely(stories, made)
    assert "; after 'Once upon a' its first choice is 'time'" in note


def test_whole_answers_are_scored_row_by_row(model):
    """Where every answer is one token nothing changes but the metric."""
    pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=4)
    assert fitted(pairs, "sequence_log_prob") is pairs
    one = circuits.discover(pairs, model, metric="sequence_log_prob", top=20)
    assert one.edges == circuits.discover(pairs, model, metric="log_prob", top=20).edges


def test_answers_of_several_tokens_become_rows(stories):
    pairs = PromptPairs.from_texts(
        stories.tokenizer, ["Once upon a"], ["One day a"], [" elephant"], [" she"]
    )
    assert pairs.in_part
    graph = circuits.discover(pairs, stories, metric="sequence_log_prob", top=10)
    assert len(pairs.each_token()) > pairs.each_token().prompts == graph.info.prompts == 1
    found = circuits.evaluate(graph, stories, pairs.each_token())
    assert (found.metric, found.n, found.interval) == ("sequence_log_prob", 1, None)


TIMES = 3


@pytest.fixture(scope="module")
def repeated(model):
    """Pairs, and the same with every row three times over as rows of one prompt."""
    pairs = circuits.load_task("ioi").pairs(model.tokenizer, n=8, seed=3)
    owner = np.repeat(np.arange(len(pairs)), TIMES)
    return pairs, replace(pairs[owner], prompt=owner)


def test_intervals_are_over_prompts_not_over_their_rows(model, repeated):
    """Rows that say the same thrice make nothing surer."""
    once, thrice = repeated
    graph = circuits.discover(once, model, top=40)
    assert circuits.discover(thrice, model, top=40).edges == graph.edges
    mine, theirs = (circuits.evaluate(graph, model, pairs) for pairs in repeated)
    assert theirs.n == mine.n == len(once)
    assert theirs.interval == pytest.approx(mine.interval)
    assert theirs.per_prompt == pytest.approx(mine.per_prompt)
    mine, theirs = (circuits.ablate(model, pairs, "a3.h0") for pairs in repeated)
    assert theirs.interval == pytest.approx(mine.interval)
    loose = circuits.ablate(model, replace(thrice, prompt=[]), "a3.h0").interval
    assert loose[1] - loose[0] < 0.8 * (mine.interval[1] - mine.interval[0])


@pytest.mark.parametrize(
    "scored",
    [
        lambda model, pairs: score_by(Config(None), model, pairs).scores,
        lambda model, pairs: circuits.score(model, pairs, batch_size=5),
        lambda model, pairs: prompt_scores(model, pairs)[0],
    ],
)
def test_standard_errors_are_over_prompts(model, repeated, scored):
    once = repeated[0]
    mine, theirs = (scored(model, pairs) for pairs in repeated)
    assert theirs.count == mine.count == len(once)
    np.testing.assert_allclose(theirs.values, mine.values, atol=1e-6)
    np.testing.assert_allclose(theirs.standard_error, mine.standard_error, atol=1e-6)
    assert theirs.clean == pytest.approx(mine.clean)


def test_validation_is_over_prompts(model, repeated):
    mine, theirs = (
        circuits.validate(model, pairs, ["secant"], ["z"], directions=["noising"]).to_frame()
        for pairs in repeated
    )
    spread = ["pearson_low", "pearson_high"]
    assert theirs[spread].to_numpy() == pytest.approx(mine[spread].to_numpy(), abs=1e-6)


def test_whole_answers_are_tested_on_other_prompts(stories, shared, tmp_path):
    """A run with rows for every token: no prompt is cut in two, and n counts prompts."""
    names = ["Tim", "Tom", "Ben", "Sam", "Max", "Leo"]
    lines = [
        {"clean": f"One day {a} saw", "corrupted": f"One day {b} saw", "answer": " an elephant",
         "counterfactual": " something"}
        for a, b in permutations(names, 2)
        if len(stories.tokenizer.encode(a)) == len(stories.tokenizer.encode(b))
    ]  # fmt: skip
    path = tmp_path / "whole.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    made = tmp_path / "run"
    options = ["--metric", "sequence_log_prob", "--n", "4", "--top", "20", "--out", str(made)]
    folder = shared / "models" / "stories260K"
    done = CliRunner().invoke(app, ["discover", str(path), "--model", str(folder), *options])
    assert done.exit_code == 0, done.output
    assert "means are over tokens, intervals over prompts" in " ".join(done.output.split())
    done = CliRunner().invoke(app, ["evaluate", str(made), "--n", "5", "--rediscoveries", "2"])
    assert done.exit_code == 0, done.output
    told = json.loads((made / "evaluation.json").read_text(encoding="utf-8"))
    assert told["n"] == told["prompts"]["n"] == min(5, len(lines) - 4) > 2


def test_bad_questions_of_a_task_s_file_are_left_out_and_counted(tmp_path):
    path = tmp_path / "mmlu.csv"
    rows = "Which is right?,a cat,a cat,a dog,a bird,D\nWhich is big?,a cat,a flea,a cow,a bird,C\n"
    path.write_text(rows, encoding="utf-8")
    config = Config(f"mcq_bias:file={path}", "nano", n=1)
    model = SimpleNamespace(tokenizer=WordTokenizer())
    with pytest.raises(TaskError, match="line 1: the same option twice: a cat"):
        noted_prompts(config, model)
    pairs, notes = noted_prompts(replace(config, skip_bad=True), model)
    assert len(pairs) == 1
    assert notes[0] == "left out 1: the same option twice"
