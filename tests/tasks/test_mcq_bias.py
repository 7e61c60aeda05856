"""Multiple-choice questions: the bank, places and letters, corruptions, positions."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import TaskError
from tasks.mcq_bias import MCQBias, cyclic_orders
from tasks.questions import LETTERS, Question, bank
from tests.tasks.conftest import WordTokenizer

TASK = MCQBias()
GRASS = Question("What color is grass?", ("red", "blue", "green"), 2)
ARC = {
    "question": {
        "stem": "What melts?",
        "choices": [{"label": "A", "text": "a stone"}, {"label": "B", "text": "ice"}],
    },
    "answerKey": "B",
}


def tokens_at(words, pairs, name, run="clean"):
    rows = np.arange(len(pairs)), pairs.positions[name]
    return [words.decode([token]).strip() for token in getattr(pairs, run)[rows]]


def options_of(text):
    """Letter -> option, read back from a prompt in one line."""
    asked = text.split(" Answer Choices: ")[1].removesuffix(" Answer:").split()
    return dict(zip((label[:-1] for label in asked[::2]), asked[1::2], strict=True))


def test_the_papers_line_and_one_line_per_option():
    assert GRASS.text() == (
        "Question: What color is grass? Answer Choices: A: red B: blue C: green Answer:"
    )
    assert GRASS.text("newline") == (
        "Question: What color is grass?\nA: red\nB: blue\nC: green\nAnswer:"
    )


@pytest.mark.parametrize("layout", ["line", "newline"])
def test_ends_are_behind_the_letters(layout):
    text, ends = GRASS.text(layout), GRASS.ends(layout)
    assert [text[ends[f"option_{letter}"] - 1] for letter in "ABC"] == [*"ABC"]
    assert ends["gold"] == ends["option_C"]


@given(by=st.integers(-7, 7), gold=st.integers(0, 2), place=st.integers(0, 2))
def test_moving_options_keeps_the_right_one_right(by, gold, place):
    question = Question("?", ("x", "y", "z"), gold)
    right = question.options[gold]
    for moved in (question.turned(by), question.with_gold(place)):
        assert moved.options[moved.gold] == right
        assert sorted(moved.options) == ["x", "y", "z"]
    assert question.with_gold(place).gold == place
    assert question.turned(by).turned(-by) == question


def test_cyclic_orders_put_every_option_everywhere_once():
    orders = cyclic_orders(GRASS)
    assert orders[0] == GRASS
    assert sorted(order.gold for order in orders) == [0, 1, 2]


def test_the_bank_is_large_and_its_questions_are_sound():
    entries = bank()
    assert len(entries) >= 200
    assert len({entry.stem for entry in entries}) == len(entries)
    assert len({entry.kind for entry in entries}) >= 10
    for entry in entries:
        assert entry.stem.endswith("?"), entry
        assert entry.answer not in entry.wrong, entry
        assert len(entry.wrong) >= 4, entry
        assert len(set(entry.wrong)) == len(entry.wrong), entry
        assert all(word.isalpha() for word in (entry.answer, *entry.wrong)), entry
        assert entry.answer.lower() not in entry.stem.lower().rstrip("?").split(), entry


def test_an_answer_is_right_for_one_word_of_its_kind_wherever_it_is_offered():
    answers = {entry.stem: entry.answer for entry in bank()}
    for entry in bank():
        question = entry.ask(np.random.default_rng(0), 5, 3)
        assert question.options[3] == answers[entry.stem]
        assert len(set(question.options)) == 5


def test_the_right_letter_is_never_a_by_default(words):
    pairs = TASK.pairs(words, n=60)
    golds = Counter(words.decode([token]) for token in pairs.answer[:, 0])
    assert golds == {" B": 20, " C": 20, " D": 20}
    assert tokens_at(words, pairs, "gold") == [
        words.decode([token]).strip() for token in pairs.answer[:, 0]
    ]


@pytest.mark.parametrize("n_options", [2, 3, 4, 5])
def test_balanced_means_every_place_equally_often(words, n_options):
    pairs = TASK.pairs(words, n=10 * n_options, gold="balanced", n_options=n_options)
    golds = Counter(words.decode([token]).strip() for token in pairs.answer[:, 0])
    assert golds == dict.fromkeys(LETTERS[:n_options], 10)
    for place in LETTERS[:n_options]:
        assert set(tokens_at(words, pairs, f"option_{place}")) == {place}


def test_one_place_can_be_asked_for(words):
    pairs = TASK.pairs(words, n=10, gold="C")
    assert {words.decode([token]) for token in pairs.answer[:, 0]} == {" C"}
    with pytest.raises(TaskError, match="gold=D with 3 options; give at least 4"):
        TASK.pairs(words, gold="D", n_options=3)


def test_to_a_exchanges_the_right_option_with_the_first(words):
    pairs = TASK.pairs(words, n=20)
    right = {entry.stem: entry.answer for entry in bank()}
    for (clean, corrupted), other in zip(pairs.texts, pairs.counterfactual, strict=True):
        stem = clean.split("Question: ")[1].split(" Answer Choices")[0]
        assert options_of(corrupted)["A"] == right[stem]
        assert sorted(options_of(clean).values()) == sorted(options_of(corrupted).values())
        assert words.decode(other) == " A"


def test_a_right_option_that_is_first_is_moved_elsewhere(words):
    pairs = TASK.pairs(words, n=20, gold="A")
    assert {words.decode([token]) for token in pairs.answer[:, 0]} == {" A"}
    assert {words.decode([t]) for t in pairs.counterfactual[:, 0]} <= {" B", " C", " D"}


def test_cycle_moves_all_options(words):
    for clean, corrupted in TASK.pairs(words, n=20, corruption="cycle").texts:
        before, after = (list(options_of(text).values()) for text in (clean, corrupted))
        assert after in [before[-by:] + before[:-by] for by in (1, 2, 3)]


def test_symbols_change_the_letters_and_nothing_else(words):
    pairs = TASK.pairs(words, n=20, corruption="symbols")
    for clean, corrupted in pairs.texts:
        before, after = options_of(clean), options_of(corrupted)
        assert list(before.values()) == list(after.values())
        assert not set(before) & set(after)
    assert (pairs.clean != pairs.corrupted).sum() == 4 * len(pairs)
    assert tokens_at(words, pairs, "gold", "corrupted") == [
        words.decode([token]).strip() for token in pairs.counterfactual[:, 0]
    ]


def test_the_counterfactual_can_be_a_or_all_other_letters(words):
    pairs = TASK.pairs(words, n=12, corruption="cycle", against="A")
    assert {words.decode(row) for row in pairs.counterfactual} == {" A"}
    pairs = TASK.pairs(words, n=12, against="others")
    for answer, others in zip(pairs.answer, pairs.counterfactual, strict=True):
        letters = {words.decode([token]).strip() for token in (*answer[:1], *others)}
        assert letters == {*"ABCD"}
        assert answer[0] not in others
    with pytest.raises(TaskError, match="against=A needs right letters other than A"):
        TASK.pairs(words, against="A", gold="balanced")


def test_splits_share_no_prompt(words):
    clean = {
        split: {text for text, _ in TASK.pairs(words, n=200, split=split).texts}
        for split in ("train", "test")
    }
    assert not clean["train"] & clean["test"]


def test_more_than_there_are_is_refused_even_when_there_are_few(words):
    everything = {"n_options": 2, "gold": "A", "split": "all"}
    total = sum(len(entry.wrong) for entry in bank())
    with pytest.raises(TaskError, match=f"n={total + 1}, but there are at most {total} distinct"):
        TASK.pairs(words, n=total + 1, **everything)


def test_questions_from_a_file(words, tmp_path):
    path = tmp_path / "arc.jsonl"
    path.write_text(json.dumps(ARC), encoding="utf-8")
    pairs = TASK.pairs(words, n=1, file=str(path), corruption="symbols")
    assert pairs.texts[0][0] == ("Question: What melts? Answer Choices: A: a stone B: ice Answer:")
    assert words.decode(pairs.answer[0]) == " B"
    with pytest.raises(TaskError, match="n=2, but there are 1 distinct prompts"):
        TASK.pairs(words, n=2, file=str(path), corruption="symbols")


def test_questions_that_cannot_be_aligned_are_counted(tmp_path):
    class LongSymbols(WordTokenizer):
        def encode(self, text, *, add_special_tokens=False):
            return super().encode(re.sub(r"\b([F-Z]):", r"\1 \1:", text))

    path = tmp_path / "arc.jsonl"
    path.write_text(json.dumps(ARC), encoding="utf-8")
    with pytest.raises(TaskError, match=r"there are 0 distinct.*\(1 more are cut differently"):
        TASK.pairs(LongSymbols(), n=1, file=str(path), corruption="symbols")


def test_of_options_of_unequal_length_all_letters_move(words, tmp_path):
    options = ["ice", "a stone", "a wooden chair", "sand"]
    choices = [{"label": label, "text": t} for label, t in zip("ABCD", options, strict=True)]
    row = {"question": {"stem": "What melts?", "choices": choices}, "answerKey": "A"}
    path = tmp_path / "arc.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    for seed in range(6):
        pairs = TASK.pairs(words, n=1, seed=seed, file=str(path), corruption="cycle")
        ((clean, corrupted),) = pairs.texts
        letters = re.compile(r" ([A-E]):")
        assert letters.sub("", clean) == letters.sub("", corrupted)
        assert letters.findall(clean) == [*"ABCD"]
        moved = letters.findall(corrupted)
        assert moved in [[*"ABCD"[by:], *"ABCD"[:by]] for by in (1, 2, 3)]
        right = re.search(r" ([A-D]): ice", clean)[1], re.search(r" ([A-D]): ice", corrupted)[1]
        measured = pairs.answer[0], pairs.counterfactual[0]
        assert tuple(words.decode(ids).strip() for ids in measured) == right
        assert "only their letters moved" in pairs.notes[0]


def test_bad_questions_of_a_file_are_left_out_by_reason(words, tmp_path):
    twice = json.loads(json.dumps(ARC))
    twice["question"]["choices"][0]["text"] = "ice"
    lines = [ARC, twice, twice | {"answerKey": "E"}, {"question": {"stem": "Why?"}}]
    path = tmp_path / "arc.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.raises(TaskError, match="line 2: the same option twice"):
        TASK.pairs(words, n=1, file=str(path))
    pairs = TASK.pairs(words, n=1, file=str(path), skip_bad=True)
    assert pairs.notes[:2] == (
        "left out 2: the same option twice",
        "left out 1: missing key ...",
    )
    assert pairs[:1].notes[:2] == pairs.notes[:2]


@pytest.mark.parametrize("corruption", ["to_A", "letters"])
def test_of_options_of_unequal_length_the_letters_change_places(words, tmp_path, corruption):
    path = tmp_path / "arc.jsonl"
    path.write_text(json.dumps(ARC), encoding="utf-8")
    pairs = TASK.pairs(words, n=1, file=str(path), corruption=corruption)
    ((clean, corrupted),) = pairs.texts
    gold = words.decode(pairs.answer[0])[1:]
    assert words.decode(pairs.counterfactual[0]) == " A"
    swap = str.maketrans({"A": gold, gold: "A"})
    letters = re.compile(r" ([A-E]):")
    shown = letters.findall(clean)
    assert [letter.translate(swap) for letter in shown] == letters.findall(corrupted)
    assert letters.sub("", clean) == letters.sub("", corrupted)
    told = "only their letters moved, not the options themselves (1 of 1 pairs)"
    assert any(told in note for note in pairs.notes) is (corruption == "to_A")


def test_letters_that_are_cut_from_their_space_are_measured_after_it():
    class Apart(WordTokenizer):
        def encode(self, text, *, add_special_tokens=False):
            return [self._id(piece) for piece in re.findall(r" (?=[A-Z]\b)| ?\w+| ?[^\w\s]", text)]

    words = Apart(bos=False)
    pairs = TASK.pairs(words, n=8)
    assert (pairs.shared == 1).all()
    for text, answer in zip(pairs.texts, pairs.answer, strict=True):
        assert text[0].endswith("Answer: ")
        assert words.decode(answer) in tuple("BCD")


def test_a_tokenizer_that_cuts_letters_is_refused(stories_tokenizer):
    with pytest.raises(TaskError, match=r"\d of 5 letters \(A, B, C, D, E\) are one token"):
        TASK.pairs(stories_tokenizer)


def test_a_tokenizer_that_does_not_know_letters_is_refused():
    class NoLetters(WordTokenizer):
        unk_token_id = 1

        def encode(self, text, *, add_special_tokens=False):
            self.vocabulary += ["<unk>"] * (len(self.vocabulary) == 1)
            return super().encode(re.sub(r"\b[B-E]\b", "<unk>", text))

        def _id(self, piece):
            return 1 if "unk" in piece else super()._id(piece)

    with pytest.raises(TaskError, match=r"1 of 5 letters \(A, B, C, D, E\) are one token"):
        TASK.pairs(NoLetters())
