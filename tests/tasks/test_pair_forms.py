"""Prompt pairs of other tools: the answers that their own metrics compare, by their own ids."""

import json

import pytest

from tasks import TaskError, read_pairs
from tasks.files import read_file, reason
from tasks.pair_forms import FORMS, OURS, form_of, verbs

YEAR = {
    "clean": "The siege lasted from 1741 to 17",
    "corrupted": "The siege lasted from 1701 to 17",
}
NOUN = {"clean": "The lamps that she wants", "corrupted": "The lamp that she wants"}


def written(tmp_path, *rows):
    path = tmp_path / "theirs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def words_of(tokenizer, ids):
    return [tokenizer.decode([token]) for token in ids if token >= 0]


def test_a_year_is_against_itself_and_those_below(tmp_path, gpt2_tokenizer):
    found = read_file(written(tmp_path, YEAR | {"correct_idx": 41}), gpt2_tokenizer)
    assert (found.form, found.pairs.metric) == ("EAP-IG (greater-than)", "prob_diff")
    assert words_of(gpt2_tokenizer, found.pairs.answer[0]) == [f"{i:02d}" for i in range(42, 100)]
    # " 1700" is one token of GPT-2's, so 00 is no token of its own there.
    below = words_of(gpt2_tokenizer, found.pairs.counterfactual[0])
    assert below == [f"{i:02d}" for i in range(1, 42)]
    assert (
        read_pairs(written(tmp_path, YEAR | {"correct_idx": "41"}), gpt2_tokenizer) == found.pairs
    )


@pytest.mark.parametrize("plural", [0, 1])
def test_verbs_agree_with_the_clean_subject(tmp_path, gpt2_tokenizer, plural):
    pairs = read_pairs(written(tmp_path, NOUN | {"plural": plural}), gpt2_tokenizer)
    assert pairs.metric == "prob_diff"
    sides = [words_of(gpt2_tokenizer, ids[0]) for ids in (pairs.answer, pairs.counterfactual)]
    assert {verb[plural] for verb in verbs()} >= {word.strip() for word in sides[0]}
    assert (" are" in sides[0], " is" in sides[1]) == (bool(plural),) * 2
    assert len(sides[0]) == len(sides[1]) > 50


@pytest.mark.parametrize(
    ("keys", "words", "prompt"),
    [
        (("correct_idx", "incorrect_idx"), (" Tom", " Kate"), "Tom and Kate met. Kate gave it to"),
        (("clean_answer_idx", "corrupted_answer_idx"), (" she", " he"), "The nurse said that"),
        (("country_idx", "corrupted_country_idx"), (" Paris", " Rome"), "The capital is"),
    ],
)
def test_ids_are_read_in_the_model_s_own_tokenizer(tmp_path, gpt2_tokenizer, keys, words, prompt):
    row = {"clean": f"One. {prompt}", "corrupted": f"Two. {prompt}"}
    ids = [gpt2_tokenizer.encode(word)[0] for word in words]
    pairs = read_pairs(written(tmp_path, row | dict(zip(keys, ids, strict=True))), gpt2_tokenizer)
    assert [pairs.answer.tolist(), pairs.counterfactual.tolist()] == [[[token]] for token in ids]
    wrong = row | dict(zip(keys, (11, 13), strict=True))
    with pytest.raises(TaskError, match="these ids are of another tokenizer"):
        read_pairs(written(tmp_path, wrong), gpt2_tokenizer)
    with pytest.raises(TaskError, match=f"{keys[0]} is 'x', not a token id"):
        read_pairs(written(tmp_path, wrong | {keys[0]: "x"}), gpt2_tokenizer)


def test_lists_of_ids_come_as_text_in_a_table(tmp_path, gpt2_tokenizer):
    names = [gpt2_tokenizer.encode(word)[0] for word in (" animals", " pets", " tools")]
    row = {"clean": "dogs and other", "corrupted": "cats and other"}
    row |= {"answers_idx": str(names[:2]), "corrupted_answers_idx": str(names[2:])}
    pairs = read_pairs(written(tmp_path, row), gpt2_tokenizer)
    assert pairs.answer.tolist() == [names[:2]]
    assert pairs.counterfactual.tolist() == [names[2:]]


def test_answers_of_other_tools_under_their_names(tmp_path, words):
    row = {"clean": "A is", "corrupt": "B is", "answers": [" x", " z"], "wrong_answers": [" y"]}
    ours = {"clean": "A is", "corrupted": "B is", "answer": [" x", " z"], "counterfactual": [" y"]}
    assert read_pairs(written(tmp_path, row), words) == read_pairs(written(tmp_path, ours), words)
    row = {"clean_prefix": "A is", "patch_prefix": "B is", "clean_answer": " x"}
    row |= {"patch_answer": " y", "case": "singular"}
    found = read_file(written(tmp_path, row), words)
    ours |= {"answer": " x", "counterfactual": " y"}
    assert found.pairs == read_pairs(written(tmp_path, ours), words)
    assert found.notes() == ["rows of feature-circuits", "keys not used: case"]


@pytest.mark.parametrize("value", [-1, 100, "many", None, 41.5])
def test_years_out_of_range_are_faults_of_their_row(tmp_path, gpt2_tokenizer, value):
    with pytest.raises(TaskError, match=r"line 1: correct_idx is .*; give 0 to 99"):
        read_pairs(written(tmp_path, YEAR | {"correct_idx": value}), gpt2_tokenizer)


def test_a_tokenizer_that_cuts_every_number_is_refused(tmp_path, stories_tokenizer):
    with pytest.raises(TaskError, match="no two-digit numbers on one side are one token"):
        read_pairs(written(tmp_path, YEAR | {"correct_idx": 41}), stories_tokenizer)


def test_every_form_is_found_by_its_own_keys():
    for form in FORMS:
        assert form_of([*form.keys, "another"]) is form
    assert form_of(["clean", "answer"]) is None
    assert OURS.misspelt(["clean", "corrupt", "answr", "id"]) == [
        ("corrupt", "corrupted"),
        ("answr", "answer"),
    ]


def test_bad_rows_are_left_out_and_counted_by_reason(tmp_path, words):
    good = {"clean": "A is", "corrupted": "B is", "answer": " x", "counterfactual": " y", "id": 1}
    bad = [good | {"clean": "A is not"}, good | {"clean": "B is very not"}, {"clean": "A"}]
    path = written(tmp_path, good, *bad, good | {"answer": " y"})
    with pytest.raises(TaskError, match=r"line 2(.|\n)*line 3(.|\n)*line 4(.|\n)*line 5"):
        read_pairs(path, words)
    found = read_file(path, words, skip_bad=True)
    assert found.pairs == read_pairs(written(tmp_path, good), words)
    assert found.notes() == [
        "keys not used: id",
        "left out 2: clean has ... tokens, corrupted ...",
        "left out 1: answer and counterfactual are the same (token ...)",
        "left out 1: missing key ...",
    ]
    with pytest.raises(TaskError, match="line 1: missing key"):
        read_pairs(written(tmp_path, bad[2]), words, skip_bad=True)


@pytest.mark.parametrize(
    ("fault", "short"),
    [
        ("clean: 3 is not a string", "clean: ... is not a string"),
        ("answer: ' it\\'s' is 2 tokens [' e', 'x']", "answer: ... is ... tokens ..."),
        ("the same option twice: a cat", "the same option twice"),
        ("no answer: 'A is'", "no answer"),
    ],
)
def test_reasons_have_no_detail(fault, short):
    assert reason(fault) == short


def test_the_files_of_the_field_load(shared, gpt2_tokenizer):
    folder = shared / "cases" / "formats"
    found = {path.name: path for path in folder.iterdir()}
    questions = {"hub_arc.jsonl", "hub_mmlu.jsonl", "mmlu_with_header.csv"}
    for name in set(found) - questions:
        pairs = read_pairs(found[name], gpt2_tokenizer)
        assert 1 <= len(pairs) <= 2, name
