"""Answers in their place: every tokenizer measures the token that running text would have."""

from string import ascii_letters

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks import PromptPairs, TaskError, read_pairs
from tasks.answers import glued, measured, size_of
from tasks.tokenize import encode
from tests.tasks.conftest import WordTokenizer

TOKENIZERS = (
    "nano_tokenizer",
    "gpt2_tokenizer",
    "stories_tokenizer",
    "smollm2_tokenizer",
    "gemma3_tokenizer",
)
SLOW = {"deadline": None, "suppress_health_check": list(HealthCheck)}
each_tokenizer = pytest.mark.parametrize("kind", TOKENIZERS)
signs = st.text(ascii_letters + " \n\"'.,:=+-0123456789()éßж東😀", max_size=12)
words = st.sampled_from(["Mary", "John", "When", "the", "12", "7", "park", '"', "A", ":", "="])
part = st.tuples(st.sampled_from(["", " ", "\n"]), words).map("".join)
spaced = st.lists(part, min_size=1, max_size=4)


@st.composite
def questions(draw):
    """A clean prompt, the same with one part swapped, and two answers: of words, or of signs."""
    parts = draw(spaced)
    others = [*parts]
    others[draw(st.integers(0, len(parts) - 1))] = draw(part)
    ends = (
        draw(st.lists(part, min_size=1, max_size=2)),
        draw(st.lists(part, min_size=1, max_size=2)),
    )
    if draw(st.integers(0, 3)):
        return tuple("".join(each) for each in (parts, others, *ends))
    return tuple(draw(signs) for _ in range(4))


@pytest.fixture
def tokenizer(request, kind):
    return request.getfixturevalue(kind)


def pairs_of(tokenizer, clean, corrupted, answer, other, **options):
    return PromptPairs.from_texts(tokenizer, [clean], [corrupted], [answer], [other], **options)


@each_tokenizer
@settings(max_examples=200, **SLOW)
@given(questions())
def test_the_measured_token_is_the_one_of_running_text(tokenizer, question):
    """A third of these pairs can be used; the others are refused."""
    clean, corrupted, answer, other = question
    try:
        pairs = pairs_of(tokenizer, clean, corrupted, answer, other)
    except TaskError:
        return
    for prompt, token, text, word in (
        (pairs.clean[0].tolist(), pairs.answer[0].tolist(), clean, answer),
        (pairs.corrupted[0].tolist(), pairs.counterfactual[0].tolist(), corrupted, other),
    ):
        running = encode(tokenizer, text + word)
        assert running[: len(prompt)] == prompt
        assert token == [running[len(prompt)]]
        begun = len(prompt) - int(pairs.shared[0])
        assert prompt[:begun] == encode(tokenizer, text)
    whole = encode(tokenizer, clean + answer)
    rest = [token for token in pairs.rest[0].tolist() if token >= 0]
    assert [*pairs.clean[0].tolist(), *pairs.answer[0].tolist(), *rest] == whole


two_digits = st.integers(10, 99)


@each_tokenizer
@settings(max_examples=60, **SLOW)
@given(
    st.lists(two_digits, min_size=2, max_size=2, unique=True),
    st.lists(two_digits, min_size=2, max_size=2, unique=True),
)
def test_numbers_are_measured_where_they_differ(tokenizer, operands, results):
    """None of these is refused, whether a tokenizer cuts numbers into digits or not."""
    clean, corrupted = (f"the sum of {operand} and 7 is" for operand in operands)
    pairs = pairs_of(tokenizer, clean, corrupted, *(f" {result}" for result in results))
    running = [encode(tokenizer, f"{clean} {result}") for result in results]
    first = next(i for i, (a, b) in enumerate(zip(*running, strict=True)) if a != b)
    assert pairs.clean[0].tolist() == running[0][:first]
    assert [pairs.answer[0, 0], pairs.counterfactual[0, 0]] == [ids[first] for ids in running]
    assert pairs.in_part is (len(running[0]) > len(encode(tokenizer, clean)) + 1)


def test_an_answer_after_a_quote_is_not_a_word_of_its_own(stories_tokenizer):
    pairs = pairs_of(stories_tokenizer, 'Tom said "', 'Tom saw "', "I", " he")
    assert pairs.answer.tolist() == [[442]]


def test_a_chat_text_is_begun_once(smollm2_tokenizer, shared):
    pairs = read_pairs(shared / "cases" / "chat.jsonl", smollm2_tokenizer)
    assert pairs.clean[0, :2].tolist() == [1, 9690]
    assert smollm2_tokenizer.decode(pairs.answer[0]) == "Paris"
    plain = pairs_of(smollm2_tokenizer, "Paris is in", "London is in", " France", " England")
    assert plain.clean[0, 0] != smollm2_tokenizer.bos_token_id


def test_an_answer_without_its_space_is_the_end_of_a_word(gpt2_tokenizer, shared):
    pairs = read_pairs(shared / "cases" / "nospace.jsonl", gpt2_tokenizer)
    assert gpt2_tokenizer.decode(pairs.answer[0]) == "Henry"
    (note,) = pairs.notes
    assert "'Henry' is read as the end of the word 'toHenry'; a new word is ' Henry'" in note


def test_half_a_character_is_a_fault_of_its_line(gpt2_tokenizer, shared):
    with pytest.raises(TaskError, match=r"line 1: corrupted: 'a .* holds half a character"):
        read_pairs(shared / "cases" / "emoji.jsonl", gpt2_tokenizer)


@pytest.mark.parametrize("kind", ["gpt2_tokenizer", "stories_tokenizer"])
def test_a_prompt_that_ends_in_a_space_is_refused_with_both_spellings(tokenizer):
    with pytest.raises(TaskError) as caught:
        pairs_of(tokenizer, "she saw it ", "she had it ", "he", "we")
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 2
    assert "'he' does not follow this prompt" in lines[0]
    assert "give the prompt without the space at its end, and ' he'" in lines[0]


def test_an_answer_that_joins_the_prompt_is_refused_with_both_spellings(gpt2_tokenizer):
    with pytest.raises(TaskError, match=r"cut as \[' at', 'ime'\]; with a leading space, ' time'"):
        pairs_of(gpt2_tokenizer, "Once upon a", "Once on a", "time", " hill")


def test_spellings_of_one_token_count_once(words):
    pairs = pairs_of(words, "A is", "B is", [" x", " x", " y"], " z")
    assert len(pairs.answer[0]) == 2


def test_answers_are_measured_where_they_differ():
    words = WordTokenizer(cut=("fourteen", "fourty", "six"))
    pairs = pairs_of(words, "A is", "B is", " fourteen", " fourty")
    assert pairs.texts == (("A is f", "B is f"),)
    assert words.decode(pairs.clean[0]) == "<bos>A is f"
    assert words.decode(pairs.answer[0]) == "ourteen"
    assert words.decode(pairs.counterfactual[0]) == "ourty"
    assert "in 1 of 1 pairs answer and counterfactual begin with the same tokens" in pairs.notes[0]
    apart = pairs_of(words, "A is", "B is", " fourteen", " six")
    assert words.decode(apart.answer[0]) == " f"
    assert "in 1 of 1 pairs the answer or the counterfactual is several tokens" in apart.notes[0]
    assert pairs_of(words, "A is", "B is", " one", " two").notes == ()


@pytest.mark.parametrize(
    ("answer", "other", "message"),
    [
        (" fourteen", " f", "one answer is the beginning of the other"),
        (" fourteen", " fourteen", "answer and counterfactual are the same"),
        (" x", [" y", " x"], "answer and counterfactual are the same"),
        (" fourteen", [" fourty", " x"], "begin with the same token and others do not"),
        ("", " x", "'' is empty"),
        (" x", [], "no counterfactual"),
    ],
)
def test_answers_that_cannot_be_told_apart_are_refused(answer, other, message):
    words = WordTokenizer(cut=("fourteen", "fourty"))
    with pytest.raises(TaskError) as caught:
        pairs_of(words, "A is", "B is", answer, other)
    (line,) = str(caught.value).splitlines()[1:]
    assert message in line


def test_an_answer_has_to_be_the_same_after_both_prompts():
    class Moody(WordTokenizer):
        def encode(self, text, *, add_special_tokens=False):
            self.cut = ("xylo",) if text.startswith("B") else ()
            return super().encode(text, add_special_tokens=add_special_tokens)

    with pytest.raises(TaskError) as caught:
        pairs_of(Moody(), "A is", "B is", " xylo", " y")
    told = r"' xylo' is cut differently after the two prompts: [' xylo'] after 'A is' and [' x', "
    assert told in str(caught.value)


def test_where_sequences_part():
    assert measured([(1, 2, 3)], [(1, 2, 4)]).shared == (1, 2)
    found = measured([(1, 2, 3, 9), (1, 2, 5)], [(1, 2, 4)])
    assert (found.answer, found.counterfactual, found.rest, found.longer) == (
        (3, 5),
        (4,),
        (9,),
        True,
    )
    assert measured([(1,)], [(2,)]).longer is False


def test_words_that_go_on_a_word_are_named():
    assert "'toHenry'" in glued("gave it to", "Henry")
    assert not any(
        map(glued, ("gave it to", "東", "", "4+4=", "A"), (" Henry", "京", "A", "A", ""))
    )


def test_sizes_are_those_of_running_text(gpt2_tokenizer, smollm2_tokenizer, nano_tokenizer):
    assert size_of(gpt2_tokenizer, " 12") == 1
    assert size_of(smollm2_tokenizer, " 12") == 3
    assert size_of(nano_tokenizer, " axolotl") == 0


def test_the_rest_of_an_answer_is_kept_for_whole_answers(smollm2_tokenizer):
    pairs = pairs_of(smollm2_tokenizer, "12+34=", "12+35=", "468", "475")
    rows = pairs.each_token()
    assert smollm2_tokenizer.decode(rows.answer[:, 0]) == "468"
    assert [row[mask].tolist()[-1:] for row, mask in zip(rows.clean, rows.mask, strict=True)] == [
        encode(smollm2_tokenizer, "12+34=" + "468"[:k])[-1:] for k in range(3)
    ]
    with pytest.raises(TaskError, match="pair 0: 2 answers"):
        pairs_of(smollm2_tokenizer, "1+3=", "1+2=", ["48", "58"], "35").each_token()


def test_positions_follow_their_tokens_into_whole_answers(smollm2_tokenizer):
    pairs = PromptPairs.from_texts(
        smollm2_tokenizer,
        ["12+34=", "1+3="],
        ["12+35=", "1+4="],
        ["46", "4"],
        ["47", "5"],
        positions={"B": [4, 2], "END": [-1, -1]},
    )
    rows = pairs.each_token()
    at = np.arange(len(rows))
    assert smollm2_tokenizer.decode(rows.clean[at, rows.positions["B"]]) == "443"
    assert (rows.positions["END"] == rows.clean.shape[1] - 1).all()


def test_rows_of_whole_answers_belong_to_their_prompts(smollm2_tokenizer):
    pairs = PromptPairs.from_texts(
        smollm2_tokenizer, ["12+34=", "1+3="], ["12+35=", "1+4="], ["46", "4"], ["47", "5"]
    )
    assert pairs.prompts == 2
    assert pairs.by_prompt(np.array([1.0, 2.0])).tolist() == [1, 2]
    rows = pairs.each_token()
    assert (len(rows), rows.prompts, rows.prompt.tolist()) == (3, 2, [0, 0, 1])
    values = np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    assert rows.by_prompt(values).tolist() == [[2, 4], [0, 2]]
    np.testing.assert_allclose(rows.by_prompt(values).mean(1), values.mean(1))
    drawn = rows.drawn([1, 0, 0])
    assert drawn.prompt.tolist() == [0, 1, 1, 2, 2]
    assert drawn.clean.tolist() == rows[[2, 0, 1, 0, 1]].clean.tolist()
    assert pairs.drawn([1, 1]).clean.tolist() == pairs[[1, 1]].clean.tolist()
    assert rows[1:].prompts == 2
    assert "tokens of the answers of 2 prompts" in rows.notes[0]
