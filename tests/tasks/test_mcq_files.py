"""Question files: every kind that is read, and every way a line can be wrong."""

import json
from pathlib import Path

import pytest

from tasks import TaskError
from tasks.mcq_files import read_question_file, read_questions

DATA = Path(__file__).parents[3] / "shared" / "data" / "mcq"


def arc(stem="What is hot?", texts=("fire", "ice"), labels="AB", key="A"):
    choices = [{"text": t, "label": label} for t, label in zip(texts, labels, strict=True)]
    return {"id": "x", "question": {"stem": stem, "choices": choices}, "answerKey": key}


def written(tmp_path, *lines, name="q.jsonl"):
    path = tmp_path / name
    rows = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_arc_and_commonsenseqa_lines(tmp_path):
    five = arc("Where?", ("a", "b", "c", "d", "e"), "ABCDE", "E")
    digits = arc("Which?", ("x", "y", "z"), "123", "2")
    found = read_questions(written(tmp_path, arc(), five, "", digits))
    assert [question.stem for question in found] == ["What is hot?", "Where?", "Which?"]
    assert [question.gold for question in found] == [0, 4, 1]
    assert found[2].options == ("x", "y", "z")
    assert found[1].letter == "E"


def test_mmlu_rows(tmp_path):
    path = written(tmp_path, '"What, then?",1,2,3,"4, or so",D', "Next?,a,b,c,d,A", name="m.csv")
    found = read_questions(path)
    assert found[0].stem == "What, then?"
    assert found[0].options == ("1", "2", "3", "4, or so")
    assert [question.letter for question in found] == ["D", "A"]


def test_memory_colours_get_other_colours_as_wrong_options(tmp_path):
    lines = ["Index, Descriptor, Item,Plural, Color", "1, a, lemon,, yellow", "2, , jeans,1, blue"]
    lines += ["3, , snow,, white", "4, the, night,, black"]
    path = written(tmp_path, *lines, name="c.csv")
    found = read_questions(path, seed=3)
    assert [q.stem for q in found[:2]] == ["What color is a lemon?", "What color are jeans?"]
    for question, color in zip(found, ("yellow", "blue", "white", "black"), strict=True):
        assert question.options[question.gold] == color
        assert set(question.options) == {"yellow", "blue", "white", "black"}
    assert read_questions(path, seed=3) == found
    assert any(read_questions(path, seed=seed) != found for seed in range(5))


def test_every_fault_is_listed_with_its_line(tmp_path):
    missing_key = arc()
    del missing_key["answerKey"]
    bad = written(
        tmp_path,
        arc(),
        "{",
        missing_key,
        arc(key="C"),
        arc(texts=("fire", "fire")),
        arc(labels="BA"),
        arc(texts=("only",), labels="A"),
        "[1]",
        arc(stem=" ", texts=("", "x")),
    )
    with pytest.raises(TaskError) as caught:
        read_questions(bad)
    message = str(caught.value)
    assert "line 1:" not in message
    for line in (
        "line 2: not JSON",
        "line 3: missing key 'answerKey'",
        "line 4: answer 'C' is none of the options A, B",
        "line 5: the same option twice: fire",
        "line 6: labels B, A; give A, B, ... or 1, 2, ... in order",
        "line 7: 1 options; give 2 to 5",
        "line 8: not a JSON object: [1]",
        "line 9: the question is empty",
        "line 9: an empty option",
    ):
        assert line in message, line


def test_faulty_csv_rows(tmp_path):
    with pytest.raises(TaskError, match=r"line 2: 5 columns(.|\n)*line 3: answer 'E' is none of"):
        read_questions(
            written(tmp_path, "q?,a,b,c,d,A", "q?,a,b,c,A", "q?,a,b,c,d,E", name="m.csv")
        )
    lines = ["Index, Descriptor, Item,Plural, Color", "1, a, lemon,, yellow", "2, a, sky"]
    with pytest.raises(TaskError, match=r"line 2: only 0 other colours(.|\n)*line 3: 3 columns"):
        read_questions(written(tmp_path, *lines, name="c.csv"))


def test_files_that_are_none_of_these(tmp_path):
    with pytest.raises(TaskError, match="looks like plain text that begins with 'x'"):
        read_questions(written(tmp_path, "x", name="q.txt"))
    with pytest.raises(TaskError, match="is empty"):
        read_questions(written(tmp_path, "", name="q.jsonl"))
    with pytest.raises(TaskError, match="is empty"):
        read_questions(written(tmp_path, "", name="q.csv"))
    with pytest.raises(TaskError, match="holds no questions"):
        read_questions(written(tmp_path, "question,A,B,C,D,answer", name="q.csv"))
    with pytest.raises(TaskError, match="there is no file"):
        read_questions(tmp_path / "absent.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaskError, match="not a text file"):
        read_questions(tmp_path / "bytes.jsonl")


@pytest.mark.skipif(not DATA.is_dir(), reason="the question sets are not beside the project")
def test_the_real_sets():
    questions = read_questions(DATA / "ARC-Challenge-Dev.jsonl")
    assert len(questions) == 299
    assert {len(question.options) for question in questions} == {3, 4, 5}
    colors = read_questions(DATA / "memory_colors.csv")
    assert len(colors) >= 100
    assert colors[0].options[colors[0].gold] == "yellow"


def test_questions_as_the_hub_has_them(tmp_path):
    arc_row = {"id": "1", "question": "Which?", "answerKey": "2"}
    arc_row["choices"] = {"text": ["x", "y"], "label": ["1", "2"]}
    mmlu = {"question": "Which?", "subject": "s", "choices": ["x", "y", "z"], "answer": 1}
    for row in (arc_row, mmlu, mmlu | {"answer": "B"}):
        (found,) = read_questions(written(tmp_path, row))
        assert (found.stem, found.options[1], found.gold) == ("Which?", "y", 1)
    (found,) = read_questions(written(tmp_path, "question,A,B,C,D,answer", "W?,x,y,z,w,1"))
    assert (found.stem, found.options, found.gold) == ("W?", ("x", "y", "z", "w"), 1)
    listed = read_questions(written(tmp_path, [arc_row, mmlu]))
    assert [question.gold for question in listed] == [1, 1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"choices": {"text": ["x"], "label": ["A", "B"]}}, "give texts, or objects of label"),
        ({"choices": {"text": ["x"]}}, "give texts, or objects of label"),
        ({"choices": "xy"}, "give texts, or objects of label"),
        ({"choices": [["x"], ["y"]]}, "give texts, or objects of label"),
        ({"choices": [{"text": "x"}]}, "give texts, or objects of label"),
        ({"choices": None}, "missing key 'choices'"),
        ({"answer": None}, "missing key 'answerKey'"),
        ({"answer": 7}, "answer '7' is none of the options A, B"),
        ({"answer": ""}, "answer '' is none of the options"),
        ({"choices": ["x", "\ud83d"]}, "half a character"),
        ({"question": {"stem": None, "choices": ["x", "y"]}}, "missing key 'stem'"),
    ],
)
def test_rows_that_are_no_question_say_why(tmp_path, change, reason):
    row = {"question": "Which?", "choices": ["x", "y"], "answer": 1}
    with pytest.raises(TaskError, match=reason):
        read_questions(written(tmp_path, row | change))


def test_odd_questions_are_left_out_and_counted(tmp_path):
    path = written(tmp_path, "q?,a,a,c,d,A", "p?,a,b,c,d,A", "r?,a,c,c,d,A", "s?,a,b,c,d,X")
    found = read_question_file(path, skip_bad=True)
    assert [question.stem for question in found.questions] == ["p?"]
    assert found.left_out == {
        "the same option twice": 2,
        "answer ... is none of the options A, B, C, D": 1,
    }


def test_prompt_pairs_are_no_questions(tmp_path):
    row = dict.fromkeys(("clean", "corrupted", "answer", "counterfactual"), "x")
    with pytest.raises(TaskError, match="holds prompt pairs, not questions"):
        read_questions(written(tmp_path, row))
    with pytest.raises(TaskError, match="holds prompt pairs, not questions"):
        read_questions(written(tmp_path, ",".join(row), "a,b,c,d"))
