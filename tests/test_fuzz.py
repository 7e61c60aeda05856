"""Files made of noise: every reader of text reads them or refuses them in words."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import CircuitsError
from tasks.files import read_file
from tasks.mcq_files import read_question_file
from tests.fuzz_readers import MEGABYTES, SECONDS, attacks, outcome, readers, seeds
from tests.tasks.conftest import WordTokenizer

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


QUICK = {"pairs": 200, "tokenizer": 20, "configuration": 60, "weights": 60}
"""Mutated files of each reader; of any other, 120."""
QUESTION = 6


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    return folder, seeds(folder)


@pytest.mark.filterwarnings("ignore:No key type for id")
@pytest.mark.parametrize("name", readers())
def test_mutated_files_are_read_or_refused(real, name):
    folder, files = real
    for _, data in attacks(files, QUICK.get(name, 120), seed=7, only=[name]):
        came = outcome(readers()[name], folder, data)
        assert came in ("read", "refused"), (data, came)


def test_real_files_are_read(real):
    folder, files = real
    for name, reader in readers().items():
        for kind in set(reader.kinds) - {"text"}:
            assert outcome(reader, folder, files[kind][0]) == "read", (name, kind)


JSON = {
    "pairs": "text",
    "questions": "text",
    "concept": "concept",
    "circuit": "circuit",
    "plan as JSON": "plan",
    "record": "record",
    "evaluation": "evaluation",
}


@pytest.mark.parametrize("name", JSON)
def test_a_key_that_is_there_twice_is_refused(real, name):
    folder, files = real
    reader = readers()[name]
    data = files[JSON[name]][QUESTION if name == "questions" else 0]
    path = folder / reader.name
    path.write_bytes(data.replace(b"{", b'{"label": 1, "label": 2, ', 1))
    with pytest.raises(CircuitsError, match="key 'label' appears 2 times"):
        reader.read(path)
    path.unlink()


def test_a_column_of_questions_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "file").write_text("question,A,B,B,D,answer\n?,a,b,c,d,A\n")
    with pytest.raises(CircuitsError, match="names the column 'B' twice"):
        read_question_file(tmp_path / "file")


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


def test_small_files_with_large_bills_are_refused_before_the_bill(root, tmp_path):
    """5 seconds of computing and 1 GB at most, whatever a file claims."""
    command = [sys.executable, "-m", "tests.bombs", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) > 30
    for seconds, megabytes, came, what in rows:
        assert float(seconds) < SECONDS, what
        assert float(megabytes) < MEGABYTES, what
        assert came == "refused" or what == "gguf: many facts", what
