"""Rows of files: what they are written in is told by their content, and every limit holds."""

import json

import pytest

from tasks import PromptPairs, TaskError, read_pairs
from tasks.json_text import parse_json
from tasks.limits import MAX_BYTES, MAX_CHARACTERS, MAX_DEPTH, MAX_ROWS
from tasks.mcq_files import read_questions
from tasks.records import read_rows_of
from tasks.rows import left_pad

ROW = {"clean": "A is", "corrupted": "B is", "answer": " x", "counterfactual": " y"}
OTHER = ROW | {"clean": "The C is", "corrupted": "The D is"}


def table(delimiter=",", end="\n", quote='"'):
    lines = [ROW, *[ROW, OTHER]]
    cells = [list(ROW), *[list(row.values()) for row in lines[1:]]]
    return end.join(delimiter.join(f"{quote}{c}{quote}" for c in row) for row in cells) + end


SAME = {
    "lines": "\n".join(map(json.dumps, (ROW, OTHER))),
    "lines with blanks and CRLF": "\r\n\r\n".join(map(json.dumps, (ROW, OTHER))),
    "a list": json.dumps([ROW, OTHER]),
    "a list over several lines": json.dumps([ROW, OTHER], indent=2),
    "under prompts": json.dumps({"name": "x", "prompts": [ROW, OTHER]}),
    "under data, over several lines": json.dumps({"data": [ROW, OTHER]}, indent=1),
    "commas": table(),
    "tabs": table("\t", quote=""),
    "semicolons": table(";"),
    "CRLF": table(end="\r\n"),
    "CR alone": table(end="\r"),
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_same_rows_in_every_shape(tmp_path, words, name, encoding):
    path = tmp_path / "mine.txt"
    path.write_bytes(SAME[name].encode(encoding))
    columns = {key: [ROW[key], OTHER[key]] for key in ROW}
    assert read_pairs(path, words) == PromptPairs.from_texts(words, **columns, task="mine")


def test_parquet(tmp_path, words):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    path = tmp_path / "mine.parquet"
    pd.DataFrame([ROW, OTHER]).to_parquet(path)
    columns = {key: [ROW[key], OTHER[key]] for key in ROW}
    assert read_pairs(path, words) == PromptPairs.from_texts(words, **columns, task="mine")
    asked = [{"question": "Hot?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}}]
    pd.DataFrame([asked[0] | {"answerKey": "B"}]).to_parquet(path)
    assert read_questions(path)[0].gold == 1
    path.write_bytes(path.read_bytes()[:-30] + b"PAR1")
    with pytest.raises(TaskError, match="is not a Parquet file that can be read"):
        read_pairs(path, words)


def test_rows_of_a_table_are_numbered_by_the_line_they_begin_on(tmp_path, words):
    path = tmp_path / "t.csv"
    path.write_text('clean,corrupted,answer,counterfactual\n\n"A\nis","B\nis", x, y\nA is,B,z\n')
    with pytest.raises(TaskError, match=r"line 6: 3 columns, where 4 are wanted"):
        read_pairs(path, words)


def test_a_quote_that_never_closes_is_refused(tmp_path, words):
    path = tmp_path / "t.csv"
    path.write_text('clean,corrupted,answer,counterfactual\n"' + "a" * 140_000)
    with pytest.raises(TaskError, match=r"line 2: field larger .*; a quote may be open"):
        read_pairs(path, words)


LOOKS = {
    "plain text": ("Once upon a time\nthere was", "looks like plain text that begins with 'Once"),
    "a table": ("a,b\n1,2\n", r"table whose first row is 'a', 'b'; its header lacks clean, corr"),
    "one column missing": ("clean,corrupted,answer\nA,B,x", "its header lacks counterfactual;"),
    "a column twice": (
        "clean,corrupted,answer,counterfactual,clean\nA,B,x,y,A\n",
        "names the column 'clean' twice",
    ),
    "a header alone": ("clean,corrupted,answer,counterfactual\n", "a header and no rows"),
    "questions": ('{"question": "?", "choices": []}', "questions, not prompt pairs; ask them with"),
    "questions without a header": ("Hot?,a,b,c,d,B\n", "MMLU's questions, not prompt pairs"),
    "a circuit": ('{"cfg": {}, "nodes": {}, "edges": {}}', "holds a circuit, not prompt pairs"),
    "chat": ('{"messages": []}', "holds chats under 'messages'"),
    "chat as prompts, for a model without a template": (
        json.dumps(ROW | {"clean": [{"role": "user", "content": "A"}]}),
        "no chat template",
    ),
    "gzip": (b"\x1f\x8b\x08", "looks like compressed with gzip"),
    "a pickle": (b"\x80\x04\x95", "a pickle, which is never opened"),
    "a broken document": ('{\n"prompts": [\n', r"is not JSON \("),
    "an empty list": ("[]", "holds an empty list"),
    "two kinds": (
        json.dumps(ROW) + "\n" + json.dumps(dict.fromkeys(("clean", "corrupted", "plural"), "1")),
        "line 2: a row of EAP-IG .subject-verb agreement., and the file began with rows of circ",
    ),
    "a key twice": (
        '{"clean": "A", "clean": "B"}\n{}',
        "key 'clean' appears 2 times in one object",
    ),
}


@pytest.mark.parametrize("name", LOOKS)
def test_what_cannot_be_read_says_what_it_looks_like(tmp_path, words, name):
    content, reason = LOOKS[name]
    path = tmp_path / "mine.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TaskError, match=reason):
        read_pairs(path, words)


def test_too_large_a_file_is_refused_before_it_is_read(tmp_path, words):
    path = tmp_path / "large.json"
    path.write_bytes(b"[" * (MAX_BYTES + 1))
    with pytest.raises(TaskError, match=f"larger than {MAX_BYTES:,} bytes"):
        read_pairs(path, words)
    path.write_bytes(b"[" * MAX_BYTES)
    with pytest.raises(TaskError, match=r"values, at most .* are read"):
        read_pairs(path, words)
    path.write_bytes(b"\n" * (MAX_ROWS + 2))
    with pytest.raises(TaskError, match=r"lines, at most .* are read"):
        read_rows_of(path)
    path.write_text("[" + "1," * MAX_ROWS + "1]")
    with pytest.raises(TaskError, match=r"entries, at most .* are read"):
        read_rows_of(path)


def test_one_long_prompt_beside_many_short_ones_is_refused_before_memory_is_taken():
    with pytest.raises(TaskError, match=r"3,001 prompts as long as the longest, 50,000 tokens"):
        left_pad([[0], [0] * 50_000, *[[0]] * 2999], 0)


def test_a_prompt_beyond_any_context_is_a_fault_of_its_row(words):
    with pytest.raises(TaskError, match=r"pair 0: clean: 1,000,001 characters"):
        PromptPairs.from_texts(words, ["a" * (MAX_CHARACTERS + 1)], ["b"], [" x"], [" y"])


@pytest.mark.parametrize("text", ["a \ud83d", "\udc00"])
def test_half_a_surrogate_pair_is_a_fault_of_its_row(words, text):
    with pytest.raises(TaskError, match=r"pair 0: clean: .* holds half a character"):
        PromptPairs.from_texts(words, [text], ["b"], [" x"], [" y"])
    with pytest.raises(TaskError, match=r"pair 0: answer: .* holds half a character"):
        PromptPairs.from_texts(words, ["a"], ["b"], [[" x", text]], [" y"])


@pytest.mark.parametrize(
    "ids", [[2**31], [2**64], [10**400], [[1], [2, 3]], [[[[1]]]], {"a": 1}, [None], "12", [1.5]]
)
def test_ids_that_are_none_are_faults_of_their_row(ids):
    with pytest.raises(TaskError, match=r"pair 0: clean: "):
        PromptPairs.from_tokens(clean=[ids], corrupted=[[1]], answer=[1], counterfactual=[2])


def test_json_is_strict():
    assert parse_json('{"a": [1, NaN]}', allow_nan=True)["a"][0] == 1
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert parse_json(json.dumps("[" * 500 + '\\"' + "{" * 500))
    for text, why in {
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1): "nested too deeply",
        '{"a": ' * 5000: "nested too deeply",
        "NaN": "NaN is not a number",
        '{"a": 1, "a": 1}': "key 'a' appears 2 times",
        '["\\ud83d"]': "half a surrogate pair",
        "1" * 5000: "4300 digits",
    }.items():
        with pytest.raises(ValueError, match=why):
            parse_json(text)
