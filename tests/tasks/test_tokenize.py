"""Text to ids: the start token, single-token words, and the index of a word."""

import copy

import pytest

from tasks import PromptPairs, TaskError, get
from tasks.tokenize import (
    encode,
    pad_id,
    single_token,
    single_tokens,
    token_index,
    unknown_words,
    with_start,
)
from tests.tasks.conftest import WordTokenizer


def test_the_start_token_is_put_in_front_where_there_is_one(words):
    assert encode(words, "a b")[0] == words.bos_token_id
    assert encode(words, "a b", bos=False) == encode(words, "a b")[1:]
    assert encode(WordTokenizer(bos=False), "a b") == [1, 2]


def test_insisting_on_a_start_token_that_is_not_there_is_refused():
    with pytest.raises(TaskError, match="defines no beginning-of-sequence token"):
        encode(WordTokenizer(bos=False), "a", bos=True)


@pytest.mark.parametrize(("given", "told"), [(None, "is None"), (["a"], "is of the kind list")])
def test_what_is_no_tokenizer_is_refused(given, told):
    with pytest.raises(TaskError, match=f"the one given {told}; give model.tokenizer"):
        get("ioi").pairs(given, n=2, seed=0)


def test_words_in_pieces_are_not_single_tokens():
    words = WordTokenizer(cut=("Barbara",))
    assert single_token(words, " Barbara") is None
    assert single_token(words, " Mary and") is None
    assert single_token(words, "") is None
    assert single_tokens(words, ["Mary", "Barbara", "Tom"]) == ["Mary", "Tom"]


def test_the_index_of_a_word_is_that_of_its_last_token():
    words = WordTokenizer(cut=("Barbara",))
    text = "When Barbara met Tom"
    assert token_index(words, text, len("When Barbara")) == 3
    assert token_index(words, text, len(text)) == 5
    assert token_index(words, text, len(text), bos=False) == 4


def test_an_index_inside_a_token_is_refused(words):
    with pytest.raises(TaskError, match="no token of this tokenizer ends at character 6"):
        token_index(words, "When Barbara", 6)


def test_gpt2_begins_no_text_unless_it_is_told_to(gpt2_tokenizer):
    assert encode(gpt2_tokenizer, "Mary")[0] == 24119
    assert encode(gpt2_tokenizer, "Mary", bos=True) == [50256, 24119]
    assert encode(gpt2_tokenizer, "<|endoftext|>Mary", bos=True) == [50256, 24119]
    assert single_token(gpt2_tokenizer, " Mary") == 5335
    assert pad_id(gpt2_tokenizer) == 50256


def test_a_beginning_that_the_text_is_written_with_is_not_put_there_twice(stories_tokenizer):
    assert (
        encode(stories_tokenizer, "<s>One")[:2]
        == encode(stories_tokenizer, "<s>One", bos=False)[:2]
    )
    assert encode(stories_tokenizer, "One").count(stories_tokenizer.bos_token_id) == 1
    assert encode(stories_tokenizer, "<s>One").count(stories_tokenizer.bos_token_id) == 1


def test_what_a_tokenizer_puts_behind_a_text_is_left_out():
    class Ending(WordTokenizer):
        def encode(self, text, *, add_special_tokens=False):
            ids = super().encode(text, add_special_tokens=add_special_tokens)
            return [*ids, self._id("<eos>")] if add_special_tokens else ids

    words = Ending()
    assert words.decode(encode(words, "a b")) == "<bos>a b"


def test_a_tokenizer_begun_otherwise_is_else_the_same(gpt2_tokenizer, nano_tokenizer):
    begun = with_start(gpt2_tokenizer, True)
    assert encode(begun, "Mary") == [50256, 24119]
    assert begun.decode([24119]) == "Mary"
    assert encode(with_start(begun, False), "Mary") == [24119]
    assert with_start(gpt2_tokenizer, None) is gpt2_tokenizer
    assert encode(with_start(nano_tokenizer, False), "Mary") == encode(nano_tokenizer, "Mary")[1:]
    assert encode(copy.copy(begun), "Mary") == [50256, 24119]
    with pytest.raises(TaskError, match="defines no beginning-of-sequence token"):
        with_start(WordTokenizer(bos=False), True)


def test_a_leading_space_written_as_a_token_of_its_own_is_looked_through(stories_tokenizer):
    assert len(encode(stories_tokenizer, " he", bos=False)) == 2
    assert single_token(stories_tokenizer, " he") == single_token(stories_tokenizer, "he")
    assert single_token(stories_tokenizer, " elephant") is None


def test_words_outside_the_vocabulary_are_named(nano_tokenizer):
    assert unknown_words(nano_tokenizer, "Mary met the axolotl") == ["axolotl"]
    assert single_token(nano_tokenizer, " axolotl") is None
    with pytest.raises(TaskError, match=r"pair 0: clean: words outside .*: axolotl"):
        PromptPairs.from_texts(nano_tokenizer, ["the axolotl"], ["the park"], [" Mary"], [" John"])
