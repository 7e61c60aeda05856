"""Indirect objects: roles, corruptions, the held-out split, and tokenizers with few words."""

from collections import Counter
from dataclasses import replace
from string import Formatter

import numpy as np
import pytest

import tasks
from tasks import TaskError
from tasks.ioi import ORDERS, Scene, Words
from tasks.tokenize import encode
from tests.tasks.conftest import WordTokenizer

MARY = Scene(
    "When {A} and {B} saw the {place}, {S} gave the {object} to",
    "ABBA",
    "Mary",
    "John",
    "park",
    "key",
)


def texts_of(pairs, ids):
    return [row[mask].tolist() for row, mask in zip(ids, pairs.mask, strict=True)]


def word_at(words, pairs, name, run="clean"):
    at = pairs.positions[name]
    return [words.decode([token]) for token in getattr(pairs, run)[np.arange(len(pairs)), at]]


def test_orders_place_the_receiver_first_or_second():
    assert MARY.text() == "When Mary and John saw the park, John gave the key to"
    swapped = replace(MARY, order="BABA")
    assert swapped.text() == "When John and Mary saw the park, John gave the key to"


def test_ends_point_behind_each_name():
    for order in ORDERS:
        scene = replace(MARY, order=order)
        ends = scene.ends()
        assert scene.text()[: ends["IO"]].endswith("Mary")
        assert scene.text()[: ends["S1"]].endswith("John")
        assert scene.text()[: ends["S2"]].endswith("park, John")


def test_the_data_has_enough_of_everything_and_no_doubles():
    words = Words.read()
    assert len(words.templates) >= 16
    assert len(words.names) >= 60
    for kind in (words.templates, words.names, words.places, words.objects):
        assert len(set(kind)) == len(kind)


@pytest.mark.parametrize("template", Words.read().templates)
def test_a_template_has_every_slot_once_after_a_space_and_names_in_order(template):
    slots = [slot for _, slot, _, _ in Formatter().parse(template) if slot]
    assert sorted(slots) == ["A", "B", "S", "object", "place"]
    assert slots.index("A") < slots.index("B") < slots.index("S")
    assert all(f" {{{slot}}}" in template for slot in slots)
    assert template.endswith(" to")


@pytest.fixture
def flipped(words):
    return tasks.get("ioi").pairs(words, n=200, seed=3)


def test_the_flip_changes_the_second_subject_and_nothing_else(words, flipped):
    changed = flipped.clean != flipped.corrupted
    assert (changed.sum(axis=1) == 1).all()
    assert (changed.argmax(axis=1) == flipped.positions["S2"]).all()
    assert word_at(words, flipped, "S2", "corrupted") == word_at(words, flipped, "IO")


def test_the_answer_is_the_name_said_once_and_the_counterfactual_the_one_said_twice(words, flipped):
    for prompt, answer, other in zip(
        texts_of(flipped, flipped.clean), flipped.answer, flipped.counterfactual, strict=True
    ):
        assert (prompt.count(answer[0]), prompt.count(other[0])) == (1, 2)
    for prompt, answer, other in zip(
        texts_of(flipped, flipped.corrupted), flipped.answer, flipped.counterfactual, strict=True
    ):
        assert (prompt.count(answer[0]), prompt.count(other[0])) == (2, 1)


def test_positions_are_on_their_words(words, flipped):
    assert word_at(words, flipped, "S1") == word_at(words, flipped, "S2")
    assert word_at(words, flipped, "IO") == [words.decode(row) for row in flipped.answer]
    assert set(word_at(words, flipped, "END")) == {" to"}
    assert (flipped.positions["S1+1"] == flipped.positions["S1"] + 1).all()


def test_both_orders_and_every_template_occur(flipped):
    first_is_io = flipped.positions["IO"] < flipped.positions["S1"]
    assert 60 < first_is_io.sum() < 140
    starts = Counter(" ".join(clean.split()[:1]) for clean, _ in flipped.texts)
    assert len(starts) == len({t.split()[0] for t in Words.read().templates})


def test_prompts_are_distinct(flipped):
    assert len({clean for clean, _ in flipped.texts}) == len(flipped)


def test_random_names_keep_the_roles_with_two_new_names(words):
    pairs = tasks.get("ioi").pairs(words, n=50, corruption="random_names")
    for run, answer in (("clean", pairs.answer), ("corrupted", pairs.counterfactual)):
        assert word_at(words, pairs, "S1", run) == word_at(words, pairs, "S2", run)
        assert word_at(words, pairs, "IO", run) == [words.decode(row) for row in answer]
    names = {name: word_at(words, pairs, name) for name in ("IO", "S1")}
    others = {name: word_at(words, pairs, name, "corrupted") for name in ("IO", "S1")}
    for i in range(len(pairs)):
        assert len({names["IO"][i], names["S1"][i], others["IO"][i], others["S1"][i]}) == 4


def test_abc_has_three_new_names_and_keeps_the_subject_as_counterfactual(words):
    pairs = tasks.get("ioi").pairs(words, n=50, corruption="abc")
    spots = [word_at(words, pairs, name, "corrupted") for name in ("IO", "S1", "S2")]
    clean = [word_at(words, pairs, name) for name in ("IO", "S1")]
    for i in range(len(pairs)):
        assert len({column[i] for column in (*spots, *clean)}) == 5
    assert [words.decode(row) for row in pairs.counterfactual] == clean[1]


def test_the_split_does_not_depend_on_roles_order_or_template():
    for _ in range(50):
        scene = Words.read().one(np.random.default_rng(_))
        same = replace(scene, io=scene.s, s=scene.io, order="BABA", template=MARY.template)
        assert scene.held_out() == same.held_out()


def test_train_and_test_share_no_combination_and_both_runs_are_in_the_split(words):
    task = tasks.get("ioi")
    found = {split: task.pairs(words, n=300, split=split) for split in ("train", "test")}
    texts = {split: {text for pair in p.texts for text in pair} for split, p in found.items()}
    assert not texts["train"] & texts["test"]
    share = np.mean([Words.read().one(np.random.default_rng(i)).held_out() for i in range(2000)])
    assert 0.17 < share < 0.23


def test_splits_divide_all_scenes():
    few = Words((MARY.template,), ("Mary", "John", "Tom", "Amy", "Dan"), ("park", "shop"), ("key",))
    parts = [set(few.scenes(split)) for split in ("train", "test")]
    assert parts[0] | parts[1] == set(few.scenes("all"))
    assert not parts[0] & parts[1]
    assert len(set(few.scenes("all"))) == few.size() == 2 * 5 * 4 * 2


def test_all_distinct_prompts_can_be_drawn_and_one_more_is_refused():
    few = Words((MARY.template,), ("Mary", "John", "Tom", "Amy", "Dan"), ("park", "shop"), ("key",))
    most = len(list(few.scenes("test")))
    assert len(set(few.draw(np.random.default_rng(0), most, "test"))) == most
    with pytest.raises(TaskError, match=f"n={most + 1}, but there are {most} distinct prompts"):
        few.draw(np.random.default_rng(0), most + 1, "test")


def test_asking_for_more_than_anything_could_hold_is_refused_at_once(words):
    with pytest.raises(TaskError, match="at most 101120000 distinct prompts"):
        tasks.get("ioi").pairs(words, n=10**15)


def test_words_that_are_not_one_token_are_left_out(words):
    words.cut = Words.read().names[:70]
    pairs = tasks.get("ioi").pairs(words, n=20)
    left = {f" {name}" for name in Words.read().names[70:]}
    assert set(word_at(words, pairs, "IO")) <= left


def test_too_few_words_are_refused_with_the_counts(words):
    words.cut = (*Words.read().names[:76], *Words.read().objects)
    with pytest.raises(TaskError) as caught:
        tasks.get("ioi").pairs(words, n=20)
    assert "4 of 80 names (at least 5)" in str(caught.value)
    assert "0 of 20 objects (at least 1)" in str(caught.value)
    assert "20 of 20 places" in str(caught.value)


@pytest.mark.parametrize(("bos", "started"), [(None, False), (False, False), (True, True)])
def test_prompts_of_gpt2_start_with_its_start_token_if_told_to(gpt2_tokenizer, bos, started):
    pairs = tasks.get("ioi").pairs(gpt2_tokenizer, n=5, bos=bos)
    for row, mask, (clean, _) in zip(pairs.clean, pairs.mask, pairs.texts, strict=True):
        assert row[mask].tolist() == encode(gpt2_tokenizer, clean, bos)
        assert (int(row[mask][0]) == 50256) is started


def test_names_of_two_tokens_may_be_kept():
    """Both names of a prompt are as long, and the first token at which they differ is measured."""
    every = Words.read().names
    words = WordTokenizer(cut=every[::2])
    task = tasks.get("ioi")
    few, all_names = (task.pairs(words, n=200, names=kept) for kept in ("one", "two"))
    assert not few.in_part
    assert all_names.in_part
    said = {word for text, _ in all_names.texts for word in every if f"{word} " in text}
    assert said & set(every[::2])
    assert said & set(every[1::2])
    for i, (text, _) in enumerate(all_names.texts):
        at = all_names.positions["IO"][i], all_names.positions["S2"][i]
        sizes = [words.decode([all_names.clean[i, k]]).startswith(" ") for k in at]
        assert len(set(sizes)) == 1, text


def test_too_few_names_of_two_tokens_are_left_out():
    every = Words.read().names
    words = WordTokenizer(cut=every[:3])
    pairs = tasks.get("ioi").pairs(words, n=100, names="two")
    assert pairs == tasks.get("ioi").pairs(words, n=100)
