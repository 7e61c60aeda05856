"""What every registered task keeps to, whichever tokenizer it is given."""

import contextlib
import itertools
import re

import numpy as np
import pytest

import tasks
from tasks.problems import STYLES
from tasks.tokenize import encode

N = 24
OWN = ("emotion", "ioi", "mcq_bias", "mental_math")
STANDARD = set(tasks.names()) - set(OWN)
ASKED = {
    "nano_tokenizer": {*OWN, "arithmetic", "colored_objects", "successor"},
    "gpt2_tokenizer": set(tasks.names()),
    "stories_tokenizer": {"colored_objects", "gender_bias"},
    "smollm2_tokenizer": {"ioi", "mcq_bias", *STANDARD},
    "gemma3_tokenizer": {"ioi", "mcq_bias", *STANDARD},
}
"""Which tasks every tokenizer can be asked, with their own options; of others it says why not."""

TOKENIZERS = tuple(ASKED)

each_task = pytest.mark.parametrize("name", tasks.names())
each_tokenizer = pytest.mark.parametrize("kind", TOKENIZERS)


def settings_of(task):
    """The defaults, and every listed value of every option beside the others' defaults."""
    yield {}
    for option, known in task.options.items():
        yield from ({option: value} for value in known.choices if value != known.default)


@pytest.fixture
def tokenizer(request, kind):
    return request.getfixturevalue(kind)


class Refused(Exception):
    """A task said in words that a tokenizer cannot be asked it."""


@contextlib.contextmanager
def words_for_refusals():
    """What counts as such words: how many prompts or words there are, or how they are cut."""
    try:
        yield
    except tasks.TaskError as fault:
        if re.search(r"\d+ of \d+|\d+ distinct|\d+ tokens", str(fault)):
            raise Refused from fault
        raise


@pytest.fixture
def ask(name, kind, tokenizer):
    """Pairs of the task, or None where the tokenizer cannot be asked it, which must be said why.

    Only what `ASKED` does not list may be refused; GPT-2's and nano's take every option as well.
    """
    task, strict = tasks.get(name), name in ASKED[kind]
    every = strict and kind in TOKENIZERS[:2]

    def pairs(n=N, seed=0, **settings):
        if every or (strict and not settings):
            return task.pairs(tokenizer, n=n, seed=seed, **settings)
        with contextlib.suppress(Refused), words_for_refusals():
            return task.pairs(tokenizer, n=n, seed=seed, **settings)
        return None

    return pairs


def skip_if_refused(pairs, name, kind):
    if pairs is None:
        pytest.skip(f"{kind} cannot be asked {name}")
    return pairs


@each_tokenizer
@each_task
def test_pairs_are_aligned_single_token_and_distinct(name, tokenizer, ask):
    task = tasks.get(name)
    for settings in settings_of(task):
        pairs = ask(seed=1, **settings)
        if pairs is None:
            continue
        assert len(pairs) == N, settings
        assert pairs.task == name
        assert pairs.metric == task.metric
        assert len({clean for clean, _ in pairs.texts}) == N, settings
        for i, texts in enumerate(pairs.texts):
            for ids, text in zip((pairs.clean, pairs.corrupted), texts, strict=True):
                assert ids[i][pairs.mask[i]].tolist() == encode(tokenizer, text), settings


@each_tokenizer
@each_task
def test_answers_are_words_and_never_the_counterfactual(name, kind, tokenizer, ask):
    pairs = skip_if_refused(ask(), name, kind)
    for answer, other in zip(pairs.answer, pairs.counterfactual, strict=True):
        assert not set(answer[answer >= 0]) & set(other[other >= 0])
    unknown = getattr(tokenizer, "unk_token_id", None)
    ids = np.concatenate([pairs.answer.ravel(), pairs.counterfactual.ravel()])
    assert unknown not in ids
    assert all(tokenizer.decode([token]).strip() for token in ids[ids >= 0])


@each_tokenizer
@each_task
def test_a_seed_gives_the_same_pairs_and_another_seed_others(name, kind, ask):
    found = [skip_if_refused(ask(seed=seed), name, kind) for seed in (0, 0, 1, 2)]
    assert found[0] == found[1]
    assert found[0].texts == found[1].texts
    for one, other in itertools.combinations(found[1:], 2):
        assert one != other
        assert set(one.texts) != set(other.texts)


@each_tokenizer
@each_task
def test_positions_are_named_and_end_is_the_last_column(name, kind, ask):
    pairs = skip_if_refused(ask(), name, kind)
    assert (pairs.positions["END"] == pairs.clean.shape[1] - 1).all()


@each_task
def test_more_prompts_than_there_are_is_an_error_with_the_counts(name, nano_tokenizer):
    with pytest.raises(tasks.TaskError, match=r"n=1000000000000000\D.*\d+ distinct"):
        tasks.get(name).pairs(nano_tokenizer, n=10**15)


@each_task
def test_unknown_options_are_an_error(name, nano_tokenizer):
    with pytest.raises(tasks.TaskError, match="unknown option 'no_such_option'"):
        tasks.get(name).pairs(nano_tokenizer, no_such_option=1)


@each_task
def test_a_small_vocabulary_gives_pairs_or_says_how_many_words_are_left(name, stories_tokenizer):
    said = ""
    try:
        found = len(tasks.get(name).pairs(stories_tokenizer, n=4))
    except tasks.TaskError as fault:
        found, said = 0, str(fault)
    assert found == 4 or re.search(r"\d+ of \d+", said), said


@each_task
def test_a_tokenizer_of_letters_gives_pairs_or_says_how_many_words_are_left(name):
    class Letters:
        bos_token_id = None

        def encode(self, text, *, add_special_tokens=False):
            return [ord(letter) for letter in text]

        def decode(self, token_ids):
            return "".join(map(chr, token_ids))

    said = ""
    try:
        found = len(tasks.get(name).pairs(Letters(), n=N))
    except tasks.TaskError as fault:
        found, said = 0, str(fault)
    assert found == N or re.search(r"\d", said), said


@pytest.mark.parametrize("kind", ["smollm2_tokenizer", "gemma3_tokenizer"])
@pytest.mark.parametrize("name", ["emotion", "ioi", "mcq_bias"])
def test_real_tokenizers_are_asked_two_hundred_questions(name, tokenizer):
    pairs = tasks.get(name).pairs(tokenizer, n=200)
    assert len(pairs) == 200
    assert all(tokenizer.decode([token]).strip() for token in pairs.answer.ravel() if token >= 0)


@pytest.mark.parametrize("kind", ["smollm2_tokenizer", "gemma3_tokenizer"])
@pytest.mark.parametrize("form", ["+", "-"])
@pytest.mark.parametrize("style", STYLES)
def test_real_tokenizers_are_asked_two_hundred_sums(form, style, tokenizer):
    assert len(tasks.get("mental_math").pairs(tokenizer, n=200, form=form, style=style)) == 200


@pytest.mark.parametrize("kind", ["smollm2_tokenizer", "gemma3_tokenizer"])
@pytest.mark.parametrize("corruption", ["to_A", "letters", "cycle", "symbols"])
def test_nearly_all_of_arc_can_be_asked(corruption, tokenizer, shared):
    path = shared / "data" / "mcq" / "ARC-Challenge-Dev.jsonl"
    asked = {"file": str(path), "corruption": corruption}
    assert len(tasks.get("mcq_bias").pairs(tokenizer, n=299, **asked)) == 299
