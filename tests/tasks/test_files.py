"""Prompt pairs from JSON lines: both forms, drawing, and every fault with its line number."""

import json

import pytest

from tasks import PromptPairs, TaskError, read_pairs
from tasks.files import check_lines

GOOD = {"clean": "A is", "corrupted": "B is", "answer": " x", "counterfactual": " y"}
IDS = {"clean": [1, 2], "corrupted": [3, 2], "answer": 5, "counterfactual": [6, 7]}


@pytest.fixture
def written(tmp_path):
    def write(*lines) -> str:
        path = tmp_path / "mine.jsonl"
        text = (line if isinstance(line, str) else json.dumps(line) for line in lines)
        path.write_text("\n".join(text), encoding="utf-8")
        return path

    return write


def faults_of(path, tokenizer=None, **options) -> list[str]:
    with pytest.raises(TaskError) as caught:
        read_pairs(path, tokenizer, **options)
    return [line.strip() for line in str(caught.value).splitlines()]


def test_text_lines_become_pairs(written, words):
    other = GOOD | {"clean": "The C is", "corrupted": "The D is", "answer": [" x", " z"]}
    pairs = read_pairs(written(GOOD, "", other, ""), words)
    expected = PromptPairs.from_texts(
        words,
        ["A is", "The C is"],
        ["B is", "The D is"],
        [" x", [" x", " z"]],
        [" y", " y"],
        task="mine",
    )
    assert pairs == expected


def test_token_lines_need_no_tokenizer(written):
    pairs = read_pairs(written(IDS, IDS | {"clean": [9], "corrupted": [8]}))
    assert pairs.clean.tolist() == [[1, 2], [0, 9]]
    assert pairs.counterfactual.tolist() == [[6, 7], [6, 7]]


def test_token_lines_also_go_with_a_tokenizer(written, words):
    assert read_pairs(written(IDS), words) == read_pairs(written(IDS))


def test_text_without_a_tokenizer_is_refused(written):
    assert "holds text, and this model has no tokenizer" in faults_of(written(GOOD))[0]


def test_every_fault_comes_with_its_line(written, words):
    path = written(
        "{broken",
        GOOD,
        {"clean": "A is"},
        "",
        GOOD | {"anser": 1},
        GOOD | {"clean": "A is not"},
        GOOD | {"answer": "lephant"},
        GOOD | {"answer": " y"},
        "[1, 2]",
        GOOD | {"clean": 3},
        IDS,
    )
    lines = faults_of(path, words)
    assert lines[0] == f"{path} cannot be used:"
    assert lines[1].startswith("line 1: not JSON")
    assert lines[2:5] == [f"line 3: missing key '{key}'" for key in list(GOOD)[1:]]
    assert lines[5].startswith("line 5: unknown key 'anser'; did you mean 'answer'?")
    assert lines[6].startswith("line 6: clean has 4 tokens, corrupted 3; both need the same number")
    assert lines[7].startswith("line 7: answer: 'lephant' does not follow this prompt")
    assert lines[8].startswith("line 8: answer and counterfactual are the same")
    assert lines[9].startswith("line 9: not a JSON object")
    assert lines[10].startswith("line 10: clean: 3 is not a string")
    assert lines[11].startswith("line 11: clean: [1, 2] is not a string")
    assert all(line.startswith("line 11: ") for line in lines[11:])


def test_an_answer_that_only_lacks_its_space_is_said_so(written, words):
    (_, line) = faults_of(written(GOOD | {"answer": "x"}), words)
    assert line.endswith("with a leading space, ' x', it does")


@pytest.mark.parametrize("lines", [[""], ["", "  ", ""]])
def test_an_empty_file_is_refused(written, words, lines):
    assert "is empty; give one JSON object per line" in faults_of(written(*lines), words)[0]


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path, words):
    gone = tmp_path / "none.jsonl"
    assert faults_of(gone, words) == [f"there is no file '{gone}'"]
    assert faults_of(tmp_path, words) == [f"{tmp_path} cannot be read: Is a directory"]
    raw = tmp_path / "raw"
    raw.write_bytes(b"[1]\n\xff\xfe\x00")
    assert faults_of(raw, words) == [f"{raw} is not a text file: byte 4 is not UTF-8"]


def test_lines_are_checked_without_a_tokenizer(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"clean": "The capital\n' + json.dumps(GOOD))
    check_lines(path)
    path.write_text('{"clean": "The capital\n\n{"clean": "a"}')
    with pytest.raises(TaskError) as told:
        check_lines(path)
    first, *faults = str(told.value).splitlines()
    assert first == f"{path} cannot be used:"
    assert [fault.split(":")[0] for fault in faults] == ["  line 1", *["  line 3"] * 3]


@pytest.mark.parametrize("first", ["json", "table"])
def test_rows_of_two_formats_are_refused_without_a_tokenizer(tmp_path, first):
    row = '{"clean": "a b", "corrupted": "a c", "answer": " x", "counterfactual": " y"}'
    table = ["clean,corrupted,answer,counterfactual", "a b,a c, x, y"]
    lines = [row, *table] if first == "json" else [*table, row]
    path = tmp_path / ("pairs.jsonl" if first == "json" else "pairs.csv")
    path.write_text("\n".join(lines))
    with pytest.raises(TaskError, match="written in another format than the first"):
        check_lines(path)


def test_rows_of_two_kinds_are_refused_without_a_tokenizer(tmp_path):
    path = tmp_path / "pairs.jsonl"
    other = {"clean_prefix": "a", "patch_prefix": "b", "clean_answer": "c", "patch_answer": "d"}
    path.write_text("\n".join(map(json.dumps, (GOOD, other))))
    with pytest.raises(TaskError, match=r"line 2: a row of .* give one kind per file"):
        check_lines(path)
    check_lines(path, skip_bad=True)


def test_drawing_is_reproducible_and_keeps_the_order(written):
    path = written(*(IDS | {"clean": [100 + i, 2]} for i in range(30)))
    drawn = read_pairs(path, n=10, seed=1)
    assert drawn == read_pairs(path, n=10, seed=1)
    assert drawn != read_pairs(path, n=10, seed=2)
    assert drawn.clean[:, 0].tolist() == sorted(set(drawn.clean[:, 0].tolist()))
    assert read_pairs(path, n=30) == read_pairs(path)


@pytest.mark.parametrize("n", [0, -1, 3])
def test_more_pairs_than_the_file_holds_are_refused(written, n):
    assert f"n={n}, but" in faults_of(written(IDS, IDS | {"clean": [9, 2]}), n=n)[0]
