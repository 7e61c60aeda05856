"""Training text: right, or wrong on purpose at the stated rate, and nothing held out is in it."""

import re
from collections import Counter

import numpy as np
import pytest

from circuits.nano.recipe import Recipe
from circuits.nano.sources import SOURCES, sources
from circuits.nano.sources_emotion import EmotionText
from circuits.nano.sources_facts import FactText
from circuits.nano.sources_letters import LetterText
from circuits.nano.sources_math import STYLE_SHARES, MathText
from circuits.nano.sources_mcq import A_RATES, MCQText, a_rate
from circuits.nano.sources_story import StoryText
from tasks.judges import LexiconJudge
from tasks.problems import FORMS, STYLES
from tasks.questions import LETTERS, Question, bank
from tasks.scenarios import EMOTIONS, scenarios
from tasks.stories import stories

ENTRIES = {entry.stem: entry for entry in bank()}


def texts_of(kind, n=600, seed=0):
    return kind().sample(np.random.default_rng(seed), n)


def parsed(prompt):
    """The question of a prompt in either layout, its right option found in the bank."""
    body = prompt.removeprefix("Question: ").replace(" Answer Choices:", "")
    stem, rest = body.split("?", 1)
    found = re.findall(r"([A-Z]): (\w+)", rest)
    letters, options = "".join(letter for letter, _ in found), tuple(word for _, word in found)
    stem = f"{stem}?"
    return Question(stem, options, options.index(ENTRIES[stem].answer), letters)


def test_math_texts_are_right_and_not_held_out():
    measured = {problem.text() for problem in MathText().held_out()}
    for prompt, answer in texts_of(MathText, 2000):
        assert prompt not in measured
        if re.fullmatch(r"[\d+-]+=", prompt):
            numbers = re.findall(r"[+-]?\d+", prompt)
            assert sum(map(int, numbers)) == int(answer)


def test_math_styles_and_forms_have_their_shares():
    texts = texts_of(MathText, 3000)
    bare = np.mean([prompt.endswith("=") for prompt, _ in texts])
    assert bare == pytest.approx(STYLE_SHARES["bare"], abs=0.04)
    assert sum(STYLE_SHARES.values()) == pytest.approx(1)
    measured = MathText().held_out()
    assert all(problem.held_out() for problem in measured)
    cells = Counter((problem.form, problem.style) for problem in measured)
    assert len(cells) == len(FORMS) * len(STYLES)
    assert len(set(cells.values())) == 1


def test_held_out_operands_are_in_no_style_of_the_training_texts():
    """Problems are distinguished by their numbers, so a problem in another style counts as seen."""

    def bare(texts):
        return {t for t in texts if t.endswith("=") and t.count("+") == 1 and "-" not in t}

    held = {
        tuple(sorted(re.findall(r"\d+", p.text()))) for p in MathText().held_out() if p.form == "+"
    }
    seen = {
        tuple(sorted(re.findall(r"\d+", text)))
        for text in bare(prompt for prompt, _ in texts_of(MathText, 6000))
    }
    assert seen
    assert not held & seen


def test_questions_lie_about_a_alone_and_at_the_stated_rate():
    lies, chances = 0, []
    for prompt, answer in texts_of(MCQText, 3000):
        question = parsed(prompt)
        assert not question.held_out()
        if question.symbols != LETTERS[: len(question.options)]:
            assert answer == f" {question.letter}"
        elif question.gold != 0:
            assert answer in (f" {question.letter}", " A")
            lies += answer == " A"
            chances.append(a_rate(ENTRIES[question.stem]))
        else:
            assert answer == " A"
    assert lies / len(chances) == pytest.approx(np.mean(chances), abs=0.03)
    assert {a_rate(entry) for entry in bank()} == set(A_RATES)


def test_the_measured_questions_are_held_out_and_balanced():
    measured = MCQText().held_out()
    assert all(question.held_out() for question in measured)
    assert len(set(Counter(question.gold for question in measured).values())) == 1
    assert {len(question.options) for question in measured} == {4}


def test_letter_texts_are_always_right_and_never_held_out():
    for prompt, answer in texts_of(LetterText, 800):
        question = parsed(prompt)
        assert answer == f" {question.letter}"
        assert question.symbols == LETTERS[:4]
        assert not question.held_out()


def test_facts_are_the_banks():
    for prompt, answer in texts_of(FactText):
        stem = prompt.removeprefix("Question: ").removesuffix(" Answer:")
        assert answer == f" {ENTRIES[stem].answer}"


def test_replies_show_what_is_asked_for_and_only_on_discovery_scenarios():
    judge, shown = LexiconJudge(), Counter()
    measured = [scenario.scenario for scenario in scenarios("test")]
    for prompt, answer in texts_of(EmotionText, 1500):
        asked = re.match(r"Always reply in (\w+)\.", prompt)
        assert judge(answer) == (asked[1] if asked else None), answer
        assert not any(scenario in prompt for scenario in measured)
        shown[asked[1] if asked else None] += 1
    assert set(shown) == {*EMOTIONS, None}
    assert shown[None] / 1500 == pytest.approx(0.25, abs=0.04)


def test_stories_are_those_of_the_train_split():
    trained = {prompt for prompt, _ in texts_of(StoryText)}
    assert not trained & set(stories(500, 2026, "test"))


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_says_what_share_of_every_phase_it_has(name):
    (source,) = sources([name])
    assert source.name == name
    assert len(source.shares) == len(Recipe().turns) + 1
    assert any(source.shares)
