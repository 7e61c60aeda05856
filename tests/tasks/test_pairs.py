"""PromptPairs: what it holds, how it pads, and that it lists every fault at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import PromptPairs, TaskError


def small(**changes):
    given = {
        "clean": [[5, 6, 7], [8, 9]],
        "corrupted": [[5, 1, 7], [2, 9]],
        "answer": [1, [2, 3]],
        "counterfactual": [4, 5],
    }
    return PromptPairs.from_tokens(**given | changes)


def faults_of(**changes) -> list[str]:
    with pytest.raises(TaskError) as caught:
        small(**changes)
    return str(caught.value).splitlines()


def test_rows_of_unequal_length_are_padded_on_the_left():
    pairs = small(positions={"first": [0, 0], "last": [-1, -1]})
    assert pairs.clean.tolist() == [[5, 6, 7], [0, 8, 9]]
    assert pairs.corrupted.tolist() == [[5, 1, 7], [0, 2, 9]]
    assert pairs.mask.tolist() == [[True] * 3, [False, True, True]]
    assert pairs.positions["first"].tolist() == [0, 1]
    assert pairs.positions["last"].tolist() == [2, 2]


def test_answers_of_unequal_number_are_filled_with_minus_one():
    assert small().answer.tolist() == [[1, -1], [2, 3]]
    assert small().counterfactual.tolist() == [[4], [5]]


def test_an_answer_that_is_given_twice_counts_once():
    assert small(answer=[[1, 1], [2, 3, 2]]).answer.tolist() == [[1, -1], [2, 3]]


def test_arrays_are_int64_copies_that_cannot_be_written():
    source = np.array([[1, 2], [3, 4]], dtype=np.int32)
    pairs = small(clean=source, corrupted=source + 10)
    source[0, 0] = 99
    assert pairs.clean.dtype == np.int64
    assert pairs.clean[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        pairs.clean[0, 0] = 7


def test_padded_arrays_come_with_their_mask():
    mask = [[True, True, True], [False, True, True]]
    rows = {"clean": [[5, 6, 7], [9, 8, 9]], "corrupted": [[5, 1, 7], [9, 2, 9]]}
    pairs = small(**rows, mask=mask, positions={"last": [-1, 2], "first": [0, 1]})
    assert pairs.positions["last"].tolist() == [2, 2]
    assert pairs == small(positions={"last": [-1, -1], "first": [0, 0]})


@pytest.mark.parametrize("mask", [[[1, 1, 0], [1, 1, 1]], [[1, 0, 1], [1, 1, 1]], [[0] * 3] * 2])
def test_padding_anywhere_but_on_the_left_is_refused(mask):
    rows = {"clean": [[5, 6, 7], [8, 9, 1]], "corrupted": [[5, 1, 7], [2, 9, 1]]}
    assert "pair 0: padding must be on the left" in faults_of(**rows, mask=mask)[1]


def test_all_faults_are_reported_at_once_with_their_pairs():
    lines = faults_of(
        clean=[[1, 2], [3, 4], [5], [6, 7], [8]],
        corrupted=[[1, 3], [3], [5], [7, 6], [9]],
        answer=[1, 2, 3, [4, 5], []],
        counterfactual=[2, 3, 4, [5, 6], [1]],
        positions={"X": [0, 0, 0, 2, -2]},
    )
    assert lines == [
        "these prompt pairs cannot be used:",
        "  pair 1: clean has 2 tokens, corrupted 1; both need the same number: [3, 4] against [3]",
        "  pair 2: clean and corrupted are the same prompt: [5]",
        "  pair 3: answer and counterfactual are the same (token 5): [6, 7]",
        "  pair 4: no answer: [8]",
        "  pair 3: position X=2 is outside its 2 tokens",
        "  pair 4: position X=-2 is outside its 1 tokens",
    ]


def test_faults_are_named_as_the_caller_asks():
    assert faults_of(answer=[4, 2], where=["line 3", "line 9"])[1].startswith("  line 3: answer")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clean": [[1.5, 2.0, 3.0], [8, 9]]}, "whole-number token ids"),
        ({"clean": ["text", [8, 9]]}, "whole-number token ids"),
        ({"clean": [[True, False, True], [8, 9]]}, "whole-number token ids"),
        ({"clean": [[5, -6, 7], [8, 9]]}, "negative token id"),
        ({"answer": [-7, 2]}, "negative token id"),
        ({"answer": [1, 2, 3]}, "answer 3"),
        ({"clean": [], "corrupted": [], "answer": [], "counterfactual": []}, "no prompt pairs"),
        ({"clean": [[], [8, 9]], "corrupted": [[], [2, 9]]}, "an empty prompt"),
        ({"positions": {"X": [0.5, 1]}}, "2 whole numbers, one per pair"),
        ({"mask": [[1, 1, 1], [0, 1, 1]]}, "these rows differ in length"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(changes, message):
    assert message in "\n".join(faults_of(**changes))


def test_the_constructor_checks_shapes_and_positions():
    rows = np.array([[1, 2]])
    with pytest.raises(TaskError, match=r"corrupted has shape \(1, 3\), clean \(1, 2\)"):
        PromptPairs(rows, np.array([[1, 2, 3]]), rows > 0, rows[:, :1], rows[:, 1:])
    mask = np.array([[False, True]])
    with pytest.raises(TaskError, match="position X=0 is not on a token"):
        PromptPairs(rows, rows + 1, mask, rows[:, :1], rows[:, 1:], {"X": np.array([0])})


def test_selecting_keeps_the_columns():
    pairs = small(positions={"first": [0, 0]})
    assert pairs[1].clean.tolist() == [[0, 8, 9]]
    assert pairs[[1, 0]].positions["first"].tolist() == [1, 0]
    assert pairs[np.array([True, False])] == pairs[:1]
    assert len(list(pairs)) == 2


def test_selecting_nothing_is_refused():
    with pytest.raises(TaskError, match="at least one pair"):
        small()[2:]


def test_batches_cover_everything_in_order():
    pairs = small()
    assert [len(batch) for batch in pairs.batches(1)] == [1, 1]
    assert next(pairs.batches(10)) == pairs
    with pytest.raises(TaskError, match="batch of 0"):
        next(pairs.batches(0))


def test_swapping_twice_gives_the_pairs_back():
    pairs = small(positions={"first": [0, 0]})
    swapped = pairs.swapped()
    assert swapped.clean.tolist() == pairs.corrupted.tolist()
    assert swapped.answer.tolist() == pairs.counterfactual.tolist()
    assert swapped != pairs
    assert swapped.swapped() == pairs


@pytest.mark.parametrize(
    "changes",
    [
        {"clean": [[5, 6, 8], [8, 9]]},
        {"answer": [2, [2, 3]]},
        {"positions": {"A": [0, 0]}},
        {"task": "ioi"},
        {"metric": "logit"},
    ],
)
def test_the_digest_changes_with_the_contents(changes):
    assert small().digest != small(**changes).digest


def test_the_digest_does_not_depend_on_what_is_written_on_padding():
    mask = [[True, True], [False, True]]
    rows = {"corrupted": [[5, 1], [0, 2]], "mask": mask}
    assert small(clean=[[5, 6], [0, 8]], **rows) == small(clean=[[5, 6], [3, 8]], **rows)


def test_texts_are_encoded_with_the_start_token_and_kept(words):
    pairs = PromptPairs.from_texts(
        words,
        ["Mary is", "Big John is"],
        ["Tom is", "Big Tom is"],
        [" a", [" b", " c"]],
        [" x", " y"],
    )
    assert pairs.clean[0].tolist()[:2] == [0, 0]
    assert pairs.mask.tolist() == [[False, True, True, True], [True] * 4]
    assert words.decode(pairs.clean[1][1:]) == "Big John is"
    assert pairs.texts[1] == ("Big John is", "Big Tom is")
    assert (pairs.answer >= 0).sum() == 3


def test_text_faults_show_the_prompt_and_how_an_answer_splits(words):
    with pytest.raises(TaskError) as caught:
        PromptPairs.from_texts(
            words,
            ["Mary is", "Tom is", "Ann is"],
            ["Tom isn't", "Bob is", "Bob is"],
            ["land", " a", 7],
            [" x", " a", " x"],
        )
    message = str(caught.value)
    assert "pair 0: answer: 'land' does not follow this prompt as tokens of its own" in message
    assert (
        "the end of 'Mary island' is cut as [' island']; with a leading space, ' land'" in message
    )
    assert "pair 0: clean has 3 tokens, corrupted 5" in message
    assert "'Mary is' against \"Tom isn't\"" in message
    assert "pair 1: answer and counterfactual are the same" in message
    assert "pair 2: answer: 7 is not a string" in message


@st.composite
def token_pairs(draw):
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    token = st.integers(0, 50)
    clean = [draw(st.lists(token, min_size=k, max_size=k)) for k in lengths]
    changed = [[*row[:-1], row[-1] + 1] for row in clean]
    return {
        "clean": clean,
        "corrupted": changed,
        "answer": [draw(st.lists(token, min_size=1, max_size=3)) for _ in clean],
        "counterfactual": [draw(st.integers(51, 90)) for _ in clean],
        "positions": {"P": [draw(st.integers(-k, k - 1)) for k in lengths]},
    }


@given(token_pairs())
def test_padding_loses_nothing(given):
    pairs = PromptPairs.from_tokens(**given)
    for name in ("clean", "corrupted"):
        rows = [
            ids[mask].tolist() for ids, mask in zip(getattr(pairs, name), pairs.mask, strict=True)
        ]
        assert rows == given[name]
    for i, (row, at) in enumerate(zip(given["clean"], given["positions"]["P"], strict=True)):
        assert pairs.clean[i, pairs.positions["P"][i]] == row[at]
    assert pairs.swapped().swapped() == pairs
    assert PromptPairs.from_tokens(**given).digest == pairs.digest


def test_one_text_is_not_a_list_of_letters(words):
    with pytest.raises(TaskError, match="clean, answer: one text given; give a list with one entr"):
        PromptPairs.from_texts(words, "A is", ["B is"], " x", [" y"])


def test_texts_without_a_tokenizer_are_refused():
    with pytest.raises(TaskError, match="texts need a tokenizer, and the one given is None"):
        PromptPairs.from_texts(None, ["A is"], ["B is"], [" x"], [" y"])
