"""Files made of noise: every reader of text reads them or refuses them in words."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import CircuitsError
from tasks.files import read_file
from tasks.mcq_files import read_question_file
from tests.fuzz_readers import attacks, outcome, readers
from tests.graphs.strategies import circuit
from tests.tasks.conftest import WordTokenizer

ROW = '{"clean": "A is", "corrupted": "B is", "answer": " x", "counterfactual": " y", "id": 3}\n'
IDS = '{"clean": [1, 2], "corrupted": [3, 2], "answer": 5, "counterfactual": [6, 7]}\n'
ASKED = (
    '{"question": "?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}\n'
)
SEEDS = {
    "pairs": ROW * 2,
    "ids": IDS,
    "list": f'{{"prompts": [{ROW.strip()}]}}',
    "table": 'clean,corrupted,answer,counterfactual\nA is,B is," x"," y"\n',
    "year": "clean,corrupted,correct_idx\nfrom 1741 to 17,from 1701 to 17,41\n",
    "ids of words": ",clean,corrupted,correct_idx,incorrect_idx\n0,A is,B is,3,4\n",
    "question": ASKED,
    "mmlu": '"What, then?",1,2,3,"4, or so",D\n',
    "concept": '{"labels": {"joy": ["glad"]}, "prompts": [{"text": "I", "group": "1"}]}',
}

texts = st.text(st.characters(exclude_categories=[]), max_size=60)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
KEYS = (
    *("clean", "corrupted", "answer", "counterfactual", "correct_idx", "plural", "messages"),
    *("question", "choices", "answerKey", "A", "B", "answers", "corrupt", "wrong_answers"),
)


def seeds():
    graph = circuit(("input->a0.h1<q>", 0.5), ("a0.h1->logits", -2.0), task="ioi")
    from graphs.formats import render

    found = {name: text.encode() for name, text in SEEDS.items()}
    return found | {form: render(graph, form) for form in ("json", "mib", "graphml")}


@pytest.mark.filterwarnings("ignore:No key type for id")
def test_mutated_files_are_read_or_refused(tmp_path):
    kinds, path = readers(), tmp_path / "file"
    for name, kind, data in attacks(seeds(), 1500, seed=7):
        path.write_bytes(data)
        came = outcome(kinds[kind], path)
        assert came in ("read", "refused"), (name, kind, data, came)


def answered(read, path: Path) -> None:
    try:
        read(path)
    except CircuitsError:
        return


@settings(max_examples=150)
@given(data=st.binary(max_size=200) | texts.map(lambda text: text.encode("utf-8", "replace")))
def test_noise_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(data)
    answered(lambda file: read_file(file, WordTokenizer(), skip_bad=True), path)
    answered(lambda file: read_question_file(file, skip_bad=True), path)


@settings(max_examples=150)
@given(rows=st.lists(st.dictionaries(st.sampled_from(KEYS), values), min_size=1, max_size=3))
def test_odd_values_under_known_keys_are_read_or_refused(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "odd"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    answered(lambda file: read_file(file, WordTokenizer(), skip_bad=True), path)
    answered(lambda file: read_file(file, None), path)
    answered(lambda file: read_question_file(file, skip_bad=True), path)
