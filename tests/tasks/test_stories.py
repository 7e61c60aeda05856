"""Stories: reproducible, in two splits, and made of known words."""

import re

import pytest

from tasks.stories import stories, vocabulary


def test_a_seed_gives_the_same_stories_and_another_seed_others():
    assert stories(20, 1) == stories(20, 1)
    assert stories(20, 1) != stories(20, 2)


def test_splits_share_no_story():
    assert not set(stories(300, 0, "train")) & set(stories(300, 0, "test"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_stories_are_sentences_of_the_vocabulary(split):
    words = {word for text in vocabulary() for word in re.findall(r"\w+", text)}
    for text in stories(100, 3, split):
        assert re.fullmatch(r"([A-Z][^.{}]+\. ?){3,4}", text), text
        assert set(re.findall(r"\w+", text)) <= words
