"""Emotion: the scenarios, groups of prompts, and pairs that differ in the emotion alone."""

import re
from collections import Counter

import numpy as np
import pytest

from tasks import TaskError
from tasks.emotion import Emotion, samples
from tasks.judges import LexiconJudge
from tasks.scenarios import EMOTIONS, THEMES, VALENCES, feelings, lexicon, scenarios
from tests.tasks.conftest import WordTokenizer

TASK = Emotion()
BOTH = ("discovery", "test")


def test_there_are_enough_scenarios_in_every_theme():
    for split, least in (("discovery", 80), ("test", 40)):
        themes = Counter(scenario.theme for scenario in scenarios(split))
        assert set(themes) == set(THEMES)
        assert sum(themes.values()) >= least
        assert len(set(themes.values())) == 1


def test_no_scenario_or_event_is_told_twice():
    everything = [scenario for split in BOTH for scenario in scenarios(split)]
    for part in ("id", "scenario"):
        told = [getattr(scenario, part) for scenario in everything]
        assert len(set(told)) == len(told), part
    stories = [s.story(valence) for s in everything for valence in VALENCES]
    assert len(set(stories)) == len(stories)


@pytest.mark.parametrize("split", BOTH)
def test_scenarios_are_in_the_first_person_and_name_no_emotion(split):
    judge = LexiconJudge()
    for scenario in scenarios(split):
        assert re.search(r"\b(I|my)\b", scenario.scenario), scenario.id
        for valence in VALENCES:
            told = scenario.story(valence)
            assert not any(judge.counts(told).values()), told
            assert told.endswith(".")
            assert scenario.thing in told


def test_words_of_feeling_belong_to_one_emotion_and_to_the_lexicon():
    owners = Counter(word for words in lexicon().values() for word in words)
    assert set(owners.values()) == {1}
    assert set(feelings()) == set(EMOTIONS)
    for emotion, words in feelings().items():
        assert len(words) >= 5
        assert set(words) <= lexicon()[emotion]


def test_prompts_ask_for_the_emotion_or_for_none():
    scenario = scenarios("test")[0]
    plain = scenario.prompt("neutral", None)
    assert plain == (
        "Keep the reply to at most two sentences. I showed my drawing to the boss at work. "
        "The boss gave the drawing back after lunch. Reply:"
    )
    assert scenario.prompt("neutral", "fear") == f"Always reply in fear. {plain}"


def test_groups_hold_every_emotion_once():
    found = samples("test", (*EMOTIONS, None))
    groups = Counter(sample.group for sample in found)
    assert set(groups.values()) == {7}
    assert len(groups) == 3 * len(scenarios("test"))
    assert [sample.emotion for sample in found[:7]] == [*EMOTIONS, None]
    assert len({sample.prompt for sample in found}) == len(found)
    with pytest.raises(TaskError, match="choose a split from test, discovery"):
        samples("train")
    with pytest.raises(TaskError, match="emotions joy"):
        samples("test", ("joy",))


def test_pairs_differ_in_the_emotion_alone(words):
    pairs = TASK.pairs(words, n=40)
    assert (pairs.clean != pairs.corrupted).sum() == len(pairs)
    rows = np.arange(len(pairs)), pairs.positions["emotion"]
    for i, (clean, corrupted) in enumerate(
        zip(pairs.clean[rows], pairs.corrupted[rows], strict=True)
    ):
        for token, ids in ((clean, pairs.answer[i]), (corrupted, pairs.counterfactual[i])):
            shown = {words.decode([t]).strip() for t in ids[ids >= 0]}
            assert shown == set(feelings()[words.decode([token]).strip()])


def test_positions_are_where_the_sentences_end(words):
    pairs = TASK.pairs(words, n=10, valence="negative")
    stories = {s.story("negative"): s.scenario for s in scenarios("test")}
    for i, (text, _) in enumerate(pairs.texts):
        ids, event = pairs.clean[i], pairs.positions["event"][i]
        told = words.decode(ids[pairs.positions["emotion"][i] + 11 : event + 1]).strip()
        assert text.endswith(f"{told} Reply: I feel")
        assert words.decode(ids[: pairs.positions["scenario"][i] + 1]).endswith(stories[told])


def test_one_emotion_against_one_other(words):
    pairs = TASK.pairs(words, n=20, emotion="fear", against="anger", valence="positive")
    assert all("in fear" in clean and "in anger" in other for clean, other in pairs.texts)
    with pytest.raises(TaskError, match="emotion and against are both fear"):
        TASK.pairs(words, emotion="fear", against="fear")


def test_splits_share_no_scenario(words):
    told = {}
    for split in BOTH:
        texts = TASK.pairs(words, n=200, split=split).texts
        told[split] = {text.split("sentences. ")[1] for text, _ in texts}
    assert not told["test"] & told["discovery"]


def test_more_than_there_are_is_refused(words):
    with pytest.raises(
        TaskError, match="n=41, but there are 40 distinct prompts with emotion fear"
    ):
        TASK.pairs(words, n=41, emotion="fear", valence="neutral")


def test_words_of_several_tokens_are_told_apart_by_their_first(words):
    words.cut = feelings()["disgust"]
    pairs = TASK.pairs(words, n=40, emotion="disgust")
    assert pairs.longer.all()
    begun = {f" {word[0]}" for word in feelings()["disgust"]}
    assert {words.decode([token]) for token in pairs.answer.ravel() if token >= 0} <= begun


def test_words_that_begin_alike_tell_no_emotion(words):
    words.cut = (*feelings()["disgust"], *feelings()["fear"])
    firsts = [{word[0] for word in feelings()[emotion]} for emotion in ("disgust", "fear")]
    pairs = TASK.pairs(words, n=40, emotion="disgust", against="fear")
    measured = {words.decode([token]) for token in pairs.answer.ravel() if token >= 0}
    assert measured == {f" {letter}" for letter in firsts[0] - firsts[1]}


def test_a_real_small_vocabulary_is_refused_with_counts(stories_tokenizer):
    with pytest.raises(TaskError, match=r"can distinguish \d of 7 words of anger"):
        TASK.pairs(stories_tokenizer)


def test_an_emotion_that_is_longer_than_all_others_is_left_out(words):
    words.cut = ("disgust", *feelings()["disgust"])
    pairs = TASK.pairs(words, n=100)
    assert not any("disgust" in text for both in pairs.texts for text in both)
    with pytest.raises(TaskError, match="there are 0 distinct prompts with emotion disgust"):
        TASK.pairs(words, n=1, emotion="disgust")


def test_a_tokenizer_without_the_words_is_refused_with_counts():
    class Same(WordTokenizer):
        def encode(self, text, *, add_special_tokens=False):
            return [self._id(letter) for letter in text.lower().replace("f", "a").replace("s", "a")]

    with pytest.raises(TaskError, match=r"\d of 7 words of anger"):
        TASK.pairs(Same())
