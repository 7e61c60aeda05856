"""Spans of a file: read, cut, and refused where they overlap or miss a token."""

import json

import numpy as np
import pytest

from tasks.errors import TaskError
from tasks.files import read_file

ROWS = (
    {"clean": [5, 6, 7], "corrupted": [5, 8, 7], "spans": {"who": [0, 2], "end": [2, 3]}},
    {"clean": [1, 5, 6, 7], "corrupted": [1, 5, 9, 7], "spans": {"who": [0, 3], "end": [3, 4]}},
)


def write(path, *spans):
    rows = [
        row | {"answer": 1, "counterfactual": 2, "kind": "k"} | ({"spans": s} if s else {})
        for row, s in zip(ROWS, spans or (None, None), strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_spans_are_columns_of_the_padded_prompts(tmp_path):
    file = read_file(write(tmp_path / "p.jsonl"))
    pairs = file.pairs
    np.testing.assert_array_equal(pairs.spans["who"], [[1, 3], [0, 3]])
    np.testing.assert_array_equal(pairs.spans["end"], [[3, 4], [3, 4]])
    np.testing.assert_array_equal(pairs[[1]].spans["who"], [[0, 3]])
    assert "spans" not in file.ignored
    assert set(pairs.columns) == {"kind"}
    other = read_file(write(tmp_path / "q.jsonl", {"a": [0, 3]}, {"a": [0, 4]})).pairs
    assert other.digest != pairs.digest


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        (({"a": [0, 2], "b": [1, 3]}, {"a": [0, 2], "b": [2, 4]}), "line 1: b .1, 3. overlaps a"),
        (({"a": [0, 1], "b": [2, 3]}, {"a": [0, 2], "b": [2, 4]}), "token 1 is in no span"),
        (({"a": [0, 3]}, {"a": [0, 3]}), "line 2: token 3 is in no span: the prompt has 4 tokens"),
        (({"a": [0, 3]}, {"a": [0, 5]}), "a goes on to 5, and the prompt has 4 tokens"),
        (({"a": [0, 3]}, {"b": [0, 4]}), "it names b, and the first row a"),
        (({"a": [0, 3]}, {"a": [3, 1]}), r"give .start, stop. with start below stop"),
        (({"a": [0, 3]}, {"a": "0-4"}), r"give .start, stop. with start below stop"),
        (({"a": [0, 3]}, [0, 4]), "spans are an object"),
    ],
)
def test_spans_that_overlap_or_miss_a_token_are_refused(tmp_path, spans, words):
    with pytest.raises(TaskError, match=words):
        read_file(write(tmp_path / "p.jsonl", *spans))
