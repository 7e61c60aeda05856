"""Judges: exact counts of words, and classifiers with labels of their own."""

import pytest

from tasks import TaskError
from tasks.judges import ClassifierJudge, LexiconJudge, agreement
from tasks.scenarios import feelings

JUDGE = LexiconJudge()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("I feel furious about my bag.", "anger"),
        ("FURIOUS! And scared, scared.", "fear"),
        ("I will call about my bag today.", None),
        ("I feel glad and sad.", None),
        ("I saw a Mad-max film.", "anger"),
        ("The sadist and the madness.", None),
        ("", None),
    ],
)
def test_the_lexicon_judge_counts_whole_words(text, shown):
    assert JUDGE(text) == shown


def test_every_word_of_feeling_shows_its_emotion():
    for emotion, words in feelings().items():
        for word in words:
            assert JUDGE(f"I feel {word} about it.") == emotion


def test_counts_by_hand():
    assert JUDGE.counts("sad, so sad, and scared") == {
        "anger": 0,
        "sadness": 2,
        "happiness": 0,
        "fear": 1,
        "surprise": 0,
        "disgust": 0,
    }


def test_a_word_may_not_show_two_emotions():
    words = {"anger": frozenset({"upset"}), "sadness": frozenset({"upset", "sad"})}
    with pytest.raises(TaskError, match="belong to two emotions: upset"):
        LexiconJudge(words)


@pytest.mark.parametrize(
    "answer",
    [
        "joy",
        {"label": "JOY", "score": 0.9},
        [{"label": "joy", "score": 0.9}],
        [[{"label": "anger", "score": 0.2}, {"label": "joy", "score": 0.7}]],
    ],
)
def test_a_classifier_may_answer_in_the_forms_of_a_pipeline(answer):
    assert ClassifierJudge(lambda text: answer)("text") == "happiness"


def test_a_weak_or_neutral_answer_shows_nothing():
    assert ClassifierJudge(lambda text: {"label": "fear", "score": 0.3}, least=0.5)("") is None
    assert ClassifierJudge(lambda text: "neutral")("") is None


def test_labels_can_be_given_and_unknown_ones_are_refused():
    judge = ClassifierJudge(lambda text: "LABEL_2", labels={"label_2": "disgust"})
    assert judge("") == "disgust"
    with pytest.raises(TaskError, match="answered 'LABEL_2', which is none of"):
        ClassifierJudge(lambda text: "LABEL_2")("")
    with pytest.raises(TaskError, match="it should be a label"):
        ClassifierJudge(lambda text: 3)("")


def test_agreement_is_counted_per_emotion():
    texts = ["I feel sad.", "I feel glad.", "I feel glad.", "I will go."]
    wanted = ["sadness", "sadness", "happiness", None]
    assert agreement(JUDGE, texts, wanted) == {"sadness": 0.5, "happiness": 1.0, None: 1.0}
    with pytest.raises(TaskError, match="4 texts but 1 emotions"):
        agreement(JUDGE, texts, ["sadness"])
    with pytest.raises(TaskError, match="'joy' is none of"):
        agreement(JUDGE, ["x"], ["joy"])
