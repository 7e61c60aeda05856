"""Every small input of shared/cases gives the right value; what other tests ask is named there."""

from pathlib import Path

import pytest

import tasks
from tasks import TaskError, read_pairs
from tasks.mcq_files import read_question_file, read_questions

TESTED = {
    "bom.jsonl": "here",
    "mmlu_twice.csv": "here",
    "formats": "here, and test_pair_forms.py",
    "chat.jsonl": "test_answers.py",
    "emoji.jsonl": "test_answers.py",
    "nospace.jsonl": "test_answers.py",
    "quote.py": "test_answers.py",
    "twice.jsonl": "../circuits/test_question.py",
    "foreign_circuit.json": "../circuits/test_foreign.py",
    "families.py": "../patching/families/test_architectures.py",
    "variants.py": "../patching/test_variants.py",
    "half_precision.py": "../patching/families/test_refusals.py",
    "README.md": "",
}
"""Where the value of each is tested."""


@pytest.fixture(scope="module")
def cases(shared):
    return shared / "cases"


def test_every_case_is_tested_somewhere(cases):
    assert {path.name for path in cases.iterdir()} == set(TESTED)
    for where in TESTED.values():
        if where.endswith(".py") and " " not in where:
            assert (Path(__file__).parent / where).is_file(), where


def test_a_byte_order_mark_is_no_part_of_the_text(cases, gpt2_tokenizer):
    pairs = read_pairs(cases / "bom.jsonl", gpt2_tokenizer)
    assert len(pairs) == len((cases / "bom.jsonl").read_text("utf-8").split("\n{"))
    assert not any("\ufeff" in text for both in pairs.texts for text in both)


def test_a_question_with_an_option_twice_is_listed_or_left_out(cases, gpt2_tokenizer, tmp_path):
    odd = (cases / "mmlu_twice.csv").read_text("utf-8").strip()
    path = tmp_path / "mmlu.csv"
    path.write_text(f"{odd}\nWhich is big?,a cat,a flea,a whale,a bird,C\n", encoding="utf-8")
    with pytest.raises(TaskError) as caught:
        read_questions(path)
    (fault,) = str(caught.value).splitlines()[1:]
    assert "line 1: the same option twice: a cat" in fault
    found = read_question_file(path, skip_bad=True)
    assert (len(found.questions), found.left_out) == (1, {"the same option twice": 1})
    pairs = tasks.get(f"mcq_bias:file={path}+skip_bad=true").pairs(gpt2_tokenizer, n=1)
    assert pairs.notes[0] == "left out 1: the same option twice"


@pytest.mark.parametrize("name", ["hub_arc.jsonl", "hub_mmlu.jsonl", "mmlu_with_header.csv"])
def test_questions_in_the_field_s_forms_are_asked(cases, gpt2_tokenizer, name):
    path = cases / "formats" / name
    n = len(read_questions(path))
    assert n >= 1
    assert len(tasks.get("mcq_bias").pairs(gpt2_tokenizer, n=n, file=str(path))) == n
