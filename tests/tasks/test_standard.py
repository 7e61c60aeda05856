"""The field's standard tasks: every answer is the right one, the corruption changes it."""

import re

import numpy as np
import pytest

import tasks
from tasks.follow import Follow
from tasks.pair_forms import verbs
from tasks.standard import Fitting, Prompt, other, words
from tests.tasks.conftest import WordTokenizer

N = 40


@pytest.fixture
def word_tokenizer(request):
    return request.getfixturevalue("words")


def told(task, tokenizer, **settings):
    """(clean, corrupted, answers, counterfactual answers) of every pair, as texts."""
    pairs = tasks.get(task).pairs(tokenizer, n=N, seed=2, **settings)
    for (clean, corrupted), *ids in zip(
        pairs.texts, pairs.answer, pairs.counterfactual, strict=True
    ):
        sides = [[tokenizer.decode([token]) for token in side if token >= 0] for side in ids]
        yield clean, corrupted, *sides


def test_years_after_the_beginning_are_right(gpt2_tokenizer):
    for clean, corrupted, right, wrong in told("greater_than", gpt2_tokenizer):
        century, year, again = re.fullmatch(
            r"The \w+ lasted .* (\d\d)(\d\d) .* (\d\d)", clean
        ).groups()
        assert century == again
        assert corrupted == clean.replace(f"{century}{year}", f"{century}01")
        assert all(int(text) > int(year) for text in right)
        assert all(int(text) <= int(year) for text in wrong)
        assert len(right) + len(wrong) >= 90


def test_of_a_tokenizer_of_digits_the_next_digit_is_asked(smollm2_tokenizer):
    for clean, _, right, wrong in told("greater_than", smollm2_tokenizer):
        tens = int(re.search(r"\d\d(\d)\d to", clean)[1])
        assert right == [str(i) for i in range(tens + 1, 10)]
        assert wrong == [str(i) for i in range(tens)]


@pytest.mark.parametrize("structure", ["simple", "noun", "across", "within"])
def test_the_verb_agrees_with_the_noun_that_the_corruption_changes(gpt2_tokenizer, structure):
    singular, plural = ({f" {verb[i]}" for verb in verbs()} for i in (0, 1))
    for clean, corrupted, right, wrong in told("sva", gpt2_tokenizer, structure=structure):
        pairs = list(zip(clean.split(), corrupted.split(), strict=True))
        ((mine, theirs),) = [pair for pair in pairs if pair[0] != pair[1]]
        many = mine == f"{theirs}s"
        assert many or theirs == f"{mine}s"
        assert set(right) <= (plural if many else singular)
        assert set(wrong) <= (singular if many else plural)
        at = clean.split().index(mine)
        assert ("that" in clean.split()[:at]) == (structure == "within" or clean[:1] in "IW")
        if structure == "across":
            guest, verb = clean.split()[-2:]
            assert verb == ("like" if guest.endswith("s") else "likes")


def test_pronouns_follow_the_stereotype_against_the_person_named(gpt2_tokenizer):
    for clean, corrupted, right, wrong in told("gender_bias", gpt2_tokenizer):
        profession = clean.split()[1]
        woman = profession in words("women")
        assert (right, wrong) == (([" she"], [" he"]) if woman else ([" he"], [" she"]))
        assert corrupted == clean.replace(profession, "man" if woman else "woman")
        assert woman or profession in words("men")


def test_what_came_before_comes_again(word_tokenizer):
    for clean, corrupted, (right,), (wrong,) in told("induction", word_tokenizer):
        cut = clean.split()
        assert cut[:3] == cut[6:]
        assert cut[3] == right.strip()
        assert corrupted.split() == [*cut[:3], wrong.strip(), *cut[4:]]
        assert wrong.strip() not in cut


@pytest.mark.parametrize("kind", ["days", "months", "numbers"])
def test_successors(word_tokenizer, kind):
    listed = words(kind)
    for clean, corrupted, (right,), (wrong,) in told("successor", word_tokenizer, kind=kind):
        for text, answer in ((clean, right), (corrupted, wrong)):
            (given,) = [word for word in text.split() if word in listed]
            assert listed[(listed.index(given) + 1) % len(listed)] == answer.strip()


@pytest.mark.parametrize("operator", ["+", "-"])
@pytest.mark.parametrize("style", ["words", "equation"])
def test_sums(gpt2_tokenizer, operator, style):
    for clean, corrupted, (right,), (wrong,) in told(
        "arithmetic", gpt2_tokenizer, operator=operator, style=style
    ):
        for text, answer in ((clean, right), (corrupted, wrong)):
            a, b = map(int, re.findall(r"\d+", text))
            assert int(answer) == (a + b if operator == "+" else a - b)
            assert answer.startswith(" ") == (style == "words")


@pytest.mark.parametrize(("style", "operator"), [("words", "+"), ("words", "-"), ("equation", "+")])
def test_of_a_tokenizer_of_digits_results_are_measured_where_they_differ(
    smollm2_tokenizer, operator, style
):
    pairs = tasks.get("arithmetic").pairs(
        smollm2_tokenizer, n=N, seed=2, operator=operator, style=style
    )
    assert pairs.in_part
    assert "the first token that differs is measured" in pairs.notes[0]
    seen = set()
    for (clean, corrupted), *ids, shared, rest in zip(
        pairs.texts, pairs.answer, pairs.counterfactual, pairs.shared, pairs.rest, strict=True
    ):
        right, wrong = (smollm2_tokenizer.decode(each) for each in ids)
        asked = re.split(r"is|=", clean)
        a, b = map(int, re.findall(r"\d+", asked[0]))
        whole = f"{asked[1].strip()}{right}{smollm2_tokenizer.decode(rest[rest >= 0])}"
        assert int(whole) == (a + b if operator == "+" else a - b) >= 0
        a, b = map(int, re.findall(r"\d+", re.split(r"is|=", corrupted)[0]))
        other = f"{re.split(r'is|=', corrupted)[1].strip()}{wrong}"
        assert str(a + b if operator == "+" else a - b).startswith(other)
        assert other != whole[: len(other)]
        seen.add(int(shared))
    assert len(seen) > 1


def test_single_digits_stay_single_tokens_where_there_are_enough(smollm2_tokenizer):
    for asked in ({"n": 30, "largest": 9}, {"n": N, "operator": "-"}):
        pairs = tasks.get("arithmetic").pairs(smollm2_tokenizer, style="equation", **asked)
        assert not pairs.in_part


def test_only_arithmetic_takes_answers_of_several_tokens():
    several = {name for name in tasks.names() if getattr(tasks.get(name), "several", False)}
    assert several == {"arithmetic"}


def test_acronyms_end_in_the_last_initial(gpt2_tokenizer):
    for clean, corrupted, (right,), (wrong,) in told("acronyms", gpt2_tokenizer):
        for text, answer in ((clean, right), (corrupted, wrong)):
            one, two, three, start = re.fullmatch(r"The (\w+) (\w+) (\w+) \((\w\w)", text).groups()
            assert f"{one[0]}{two[0]}{three[0]}" == start + answer
        assert right != wrong


@pytest.mark.parametrize("relation", ["capital", "language", "opposite", "past"])
def test_relations(gpt2_tokenizer, relation):
    known = words("relations")[relation]["pairs"]
    for clean, corrupted, (right,), (wrong,) in told(
        "relations", gpt2_tokenizer, relation=relation
    ):
        assert right != wrong
        for text, answer in ((clean, right), (corrupted, wrong)):
            given = {subject for subject, found in known if found == answer.strip()}
            assert given & set(re.findall(r"\w+", text))


def test_the_option_that_was_said_is_right_under_either_symbol(gpt2_tokenizer):
    pairs = tasks.get("colored_objects").pairs(gpt2_tokenizer, n=N)
    for texts, *ids in zip(pairs.texts, pairs.answer, pairs.counterfactual, strict=True):
        for text, (token,) in zip(texts, ids, strict=True):
            color = re.match(r"The \w+ is (\w+)\.", text)[1]
            symbol = gpt2_tokenizer.decode([token]).strip()
            assert f"\n{symbol}. {color}\n" in text
        assert re.findall(r"\n\w\. (\w+)", texts[0]) == re.findall(r"\n\w\. (\w+)", texts[1])
    row = pairs.clean[0]
    found = {name: gpt2_tokenizer.decode([row[at[0]]]) for name, at in pairs.positions.items()}
    assert found["symbol"].strip() == gpt2_tokenizer.decode(pairs.answer[0]).strip()
    assert found["END"] == ":"


def test_the_third_argument_is_next(gpt2_tokenizer):
    for clean, corrupted, (right,), (wrong,) in told("docstring", gpt2_tokenizer):
        names = re.match(r"def \w+\(self, (.*)\):\n", clean)[1].split(", ")
        assert re.findall(r":param (\w+):", clean) == names[:2]
        assert names[2] == right.strip()
        assert corrupted == clean.replace(f", {names[2]}, ", f", {wrong.strip()}, ")
        assert clean.endswith("\n    :param")


def test_positions_are_where_the_words_are(gpt2_tokenizer):
    for name, position, pattern in (
        ("sva", "subject", r"(\w+)$"),
        ("greater_than", "year", r"\d\d(\d\d) to"),
        ("docstring", "argument", r"self, \w+, \w+, (\w+)"),
        ("successor", "given", r"(\w+day)"),
        ("relations", "subject", r"([A-Z]\w+) ?(?:is|sits|near|is near its capital,)?"),
    ):
        pairs = tasks.get(name).pairs(gpt2_tokenizer, n=N)
        for row, at, (clean, _) in zip(
            pairs.clean, pairs.positions[position], pairs.texts, strict=True
        ):
            found = re.findall(pattern, clean)
            assert gpt2_tokenizer.decode([row[at]]).strip() in found, (name, clean)


def test_what_cannot_be_asked_is_said_by_kind(word_tokenizer):
    fitting = Fitting(Follow(word_tokenizer))
    for asked, why in (
        (Prompt("A is", "The B is", [" x"], [" y"]), "differ in length"),
        (Prompt("A is", "A is", [" x"], [" y"]), "are cut like their corrupted ones"),
        (Prompt("A is", "B is", [" x y"], [" y"]), "have answers that are not one token"),
        (Prompt("A is", "B is", ["x"], [" y"]), "have answers that are not one token"),
    ):
        assert fitting.fitted(asked).startswith(why)
    apart = Fitting(Follow(WordTokenizer(cut=("xylo", "xyst"))), several=True)
    assert apart.fitted(Prompt("A is", "B is", [" xylo"], [" xyst"])).answer == [" xylo"]
    for answer, wrong in ((" xylo", " x"), (" xylo", " xylo"), ("", " y")):
        reason = apart.fitted(Prompt("A is", "B is", [answer], [wrong]))
        assert reason == "have answers that no token distinguishes"
    kept = fitting.fitted(Prompt("A is", "B is", [" x", " x y"], [" y"], {"A": 1}))
    assert kept.answer == [" x"]
    assert fitting.positions(kept) == {"A": 1}


def test_another_word_is_another_word():
    rng = np.random.default_rng(0)
    assert {other(rng, "abc", "b") for _ in range(20)} == {"a", "c"}
