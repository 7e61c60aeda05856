"""Mental math: results, templates, ranges, corruptions, and a sampler that leaks nothing."""

import ast
import operator
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tasks
from tasks import TaskError
from tasks.keep import kept_pairs
from tasks.mental_math import MentalMath
from tasks.problems import FORMS, STYLES, Problem
from tests.tasks.conftest import WordTokenizer

TASK = MentalMath()
OPERANDS = st.integers(0, 99)
SIGNS = {ast.Add: operator.add, ast.Sub: operator.sub}

each_style = pytest.mark.parametrize("style", STYLES)
each_form = pytest.mark.parametrize("form", FORMS)


def operands_of(form):
    return (42, 20, 15)[: len(form) + 1]


def value_of(text):
    """What a bare problem evaluates to, by Python's own reading of it."""

    def walk(node):
        if isinstance(node, ast.BinOp):
            return SIGNS[type(node.op)](walk(node.left), walk(node.right))
        return node.value

    return walk(ast.parse(text.rstrip("="), mode="eval").body)


@given(form=st.sampled_from(FORMS), a=OPERANDS, b=OPERANDS, c=OPERANDS)
def test_the_result_is_what_the_bare_problem_says(form, a, b, c):
    problem = Problem(form, "bare", (a, b, c)[: len(form) + 1])
    assert problem.result == value_of(problem.text())
    assert problem.answer == str(problem.result)


def test_running_totals_come_from_left_to_right():
    assert Problem("-+", "bare", (3, 5, 9)).totals == (-2, 7)
    assert Problem("--", "verbal", (30, 5, 9)).answer == " 16"


@each_style
@each_form
def test_a_template_names_every_operand_and_operator_once(style, form):
    problem = Problem(form, style, operands_of(form))
    text, ends = problem.text(), problem.ends()
    for slot, operand in zip("ABC", problem.operands, strict=False):
        assert text[: ends[slot]].endswith(str(operand))
        assert text.count(str(operand)) == 1
    assert set(ends) == {*"ABC"[: len(problem.operands)], *("op", "op2")[: len(form)]}
    assert not re.search(r"[\[\]{}]|  |\s$", text)


@given(a=OPERANDS, b=OPERANDS, c=OPERANDS)
def test_the_order_of_a_sum_and_the_style_do_not_change_the_split(a, b, c):
    splits = {
        Problem("++", style, operands).held_out()
        for style in STYLES
        for operands in ((a, b, c), (c, a, b), (b, a, c))
    }
    assert len(splits) == 1


def test_a_tenth_is_held_out():
    every = [Problem("-", "bare", (a, b)) for a in range(100) for b in range(100)]
    assert 0.08 < np.mean([problem.held_out() for problem in every]) < 0.12


@each_style
@each_form
def test_pairs_hold_right_results_in_range(gpt2_tokenizer, style, form):
    pairs = TASK.pairs(gpt2_tokenizer, n=8, seed=3, style=style, form=form, split="all")
    for clean, corrupted, answer, other in zip(
        *zip(*pairs.texts, strict=True), pairs.answer, pairs.counterfactual, strict=True
    ):
        for text, token in ((clean, answer), (corrupted, other)):
            numbers = [int(number) for number in re.findall(r"\d+", text)]
            if style == "instruction" and form[0] == "-":
                numbers[:2] = numbers[1::-1]
            problem = Problem(form, style, tuple(numbers))
            assert problem.text() == text
            assert gpt2_tokenizer.decode(token) == problem.answer
            assert min(problem.totals) >= 0


def test_positions_are_on_the_operands(words):
    pairs = TASK.pairs(words, n=5, form="+-", style="question")
    problem = re.compile(r"sum of (\d+) and (\d+) minus (\d+)\?")
    for i, (text, _) in enumerate(pairs.texts):
        found = problem.search(text).groups()
        for slot, number in zip("ABC", found, strict=True):
            assert words.decode([pairs.clean[i, pairs.positions[slot][i]]]) == f" {number}"
        assert words.decode([pairs.clean[i, pairs.positions["op"][i]]]) == " sum"
        assert words.decode([pairs.clean[i, pairs.positions["op2"][i]]]) == " minus"


@pytest.mark.parametrize(("corruption", "kept"), [("A", "B"), ("B", "A")])
def test_one_operand_changes_alone(words, corruption, kept):
    pairs = TASK.pairs(words, n=20, corruption=corruption)
    changed, same = pairs.positions[corruption], pairs.positions[kept]
    rows = np.arange(len(pairs))
    assert (pairs.clean[rows, changed] != pairs.corrupted[rows, changed]).all()
    assert (pairs.clean[rows, same] == pairs.corrupted[rows, same]).all()
    assert (pairs.clean != pairs.corrupted).sum() == len(pairs)


def test_all_operands_change(words):
    pairs = TASK.pairs(words, n=20, form="+-")
    for slot in "ABC":
        rows = np.arange(len(pairs)), pairs.positions[slot]
        assert (pairs.clean[rows] != pairs.corrupted[rows]).all()


def test_the_operator_changes_alone(words):
    pairs = TASK.pairs(words, n=20, corruption="op", style="verbal", form="+-")
    rows = np.arange(len(pairs)), pairs.positions["op"]
    assert {words.decode([token]) for token in pairs.corrupted[rows]} == {" difference"}
    assert (pairs.clean != pairs.corrupted).sum() == len(pairs)
    with pytest.raises(TaskError, match="style word_problem the operator does not change alone"):
        TASK.pairs(words, corruption="op", style="word_problem")


def test_ranges_are_kept(words):
    pairs = TASK.pairs(words, n=30, form="+-", smallest=10, largest=30, least=5, most=12)
    for text, _ in pairs.texts:
        a, b, c = map(int, re.findall(r"\d+", text))
        assert all(10 <= operand <= 30 for operand in (a, b, c))
        assert 5 <= a + b - c <= 12


def test_ranges_that_leave_nothing_are_refused_with_the_counts(words):
    with pytest.raises(TaskError, match=r"n=3, but there are 0 distinct prompts of form A-B-C"):
        TASK.pairs(words, n=3, form="--", smallest=90)
    with pytest.raises(TaskError, match="from 5 to 4; give at least two numbers"):
        TASK.pairs(words, smallest=5, largest=4)
    with pytest.raises(TaskError, match="from -5 to 4; give at least two numbers"):
        TASK.pairs(words, smallest=-5, largest=4)


def test_every_distinct_problem_can_be_asked_for_and_no_more(words):
    options = {"largest": 4, "split": "all", "corruption": "A"}
    every = TASK.pairs(words, n=25, **options)
    assert len({clean for clean, _ in every.texts}) == 25
    with pytest.raises(TaskError, match="n=26, but there are 25 distinct"):
        TASK.pairs(words, n=26, **options)


def test_operands_that_are_cut_are_left_out():
    cut = WordTokenizer(cut=("7", "17"))
    pairs = TASK.pairs(cut, n=60, largest=20, split="all", most=16)
    used = {int(number) for text, _ in pairs.texts for number in re.findall(r"\d+", text)}
    assert used <= set(range(21)) - {7, 17}
    assert len(used) >= 12


def test_a_tokenizer_without_numbers_is_refused_with_the_counts(stories_tokenizer):
    with pytest.raises(TaskError, match=r"0 distinct .* with 10 operands .*each of them one token"):
        TASK.pairs(stories_tokenizer, tokens="one")
    with pytest.raises(TaskError, match="0 of 100 numbers from 900 to 999 are one token for"):
        TASK.pairs(
            WordTokenizer(cut=tuple(map(str, range(900, 1000)))),
            tokens="one",
            smallest=900,
            largest=999,
        )


@each_style
@pytest.mark.parametrize("form", FORMS)
def test_numbers_may_be_cut_into_digits(smollm2_tokenizer, style, form):
    """Operands stay in their places, and the result is read where the two differ."""
    pairs = TASK.pairs(smollm2_tokenizer, n=40, form=form, style=style, split="all")
    at = np.arange(len(pairs))
    for slot in "ABC"[: len(form) + 1]:
        for ids in (pairs.clean, pairs.corrupted):
            assert all(
                smollm2_tokenizer.decode([token]).isdigit()
                for token in ids[at, pairs.positions[slot]]
            )
    for i, (clean, _) in enumerate(pairs.texts):
        prompt = smollm2_tokenizer.decode(pairs.clean[i][pairs.mask[i]])
        assert prompt == clean
        digits = re.findall(r"\d", prompt)[-int(pairs.shared[i]) :] if pairs.shared[i] else []
        assert len(smollm2_tokenizer.decode(pairs.answer[i]).strip()) == 1, digits


@pytest.mark.parametrize("corruption", ["A", "B", "op"])
def test_corruptions_keep_the_digits_in_place(smollm2_tokenizer, corruption):
    pairs = TASK.pairs(smollm2_tokenizer, n=40, corruption=corruption, style="verbal")
    assert (pairs.clean != pairs.corrupted).any(1).all()
    assert pairs.in_part


def test_the_sampler_holds_the_fixed_operand_and_nothing_else(words):
    prompts = TASK.conditional(words, 3000, seed=1, fixed={"B": 20}, form="-", largest=40)
    texts = [words.decode(row) for row in prompts[:, 1:]]
    found = np.array([[int(number) for number in re.findall(r"\d+", text)] for text in texts])
    assert (found[:, 1] == 20).all()
    assert set(found[:, 0]) == set(range(41))


def test_the_sampler_does_not_leak_the_fixed_operand(words):
    """With results kept in range A would be 20 or more wherever B is 20: its mean tells B."""
    means = {}
    for fixed in (2, 38):
        prompts = TASK.conditional(words, 6000, seed=7, fixed={"B": fixed}, form="-", largest=40)
        first = [int(words.decode([token])) for token in prompts[:, 1]]
        means[fixed] = np.mean(first)
    # Both are the mean of 0..40, here with a standard error of 0.15.
    assert means[2] == pytest.approx(20, abs=0.8)
    assert means[38] == pytest.approx(20, abs=0.8)
    ranged = TASK.pairs(words, n=40, form="-", largest=40, smallest=0, least=0, split="all")
    assert all(a >= b for a, b in (map(int, re.findall(r"\d+", t)) for t, _ in ranged.texts))


def test_the_sampler_refuses_operands_that_are_not_there(words):
    with pytest.raises(TaskError, match="fixed C, C=3"):
        TASK.conditional(words, 5, fixed={"C": 3}, form="+", smallest=5)
    with pytest.raises(TaskError, match="fixed B=300"):
        TASK.conditional(words, 5, fixed={"B": 300})
    with pytest.raises(TaskError, match="n=0"):
        TASK.conditional(words, 0, fixed={"B": 3})


def test_the_filter_keeps_what_a_callable_chooses(words):
    def even(pairs):
        return np.array([int(words.decode([token])) % 2 == 0 for token in pairs.answer[:, 0]])

    pairs, share = kept_pairs(TASK, words, 30, even, seed=2)
    assert len(pairs) == 30
    assert even(pairs).all()
    assert 0.3 < share < 0.7
    again, _ = kept_pairs(TASK, words, 30, even, seed=2)
    assert again == pairs


def test_the_filter_says_how_many_it_kept(words):
    with pytest.raises(TaskError, match=r"the filter kept 0 of \d+ pairs, 2 are wanted"):
        kept_pairs(TASK, words, 2, lambda pairs: np.zeros(len(pairs), dtype=bool))
    with pytest.raises(TaskError, match="one true or false per pair"):
        kept_pairs(TASK, words, 2, lambda pairs: np.ones(1, dtype=bool))


def test_it_is_a_task_like_the_others():
    assert tasks.get("mental_math").name == "mental_math"
