"""Methods as they are written, wherever a method can be named."""

import numpy as np
import pytest

from patching.scoring import score
from patching.written import read_method
from tasks.errors import MethodError


def test_a_written_option_is_the_named_one(gpt2, pairs):
    written = score(gpt2, pairs, "ig:steps=2+on=activations", "node")
    named = score(gpt2, pairs, "ig", "node", steps=2, on="activations")
    np.testing.assert_array_equal(written.values, named.values)
    assert (written.method, written.options) == (named.method, named.options)


def test_rules_keep_their_own_signs():
    assert read_method("relevance:rules=gim,norm=detach") == (
        "relevance",
        {"rules": "gim,norm=detach"},
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("igg:steps=2", "unknown method 'igg'; did you mean 'ig'"),
        ("ig:steps", "'steps' is not a setting; write NAME=VALUE"),
        ("ig:stepps=2", "did you mean 'steps'"),
        ("ig:steps=two", "option steps is int, not 'two'"),
        ("ig:steps=2+steps=3", "option steps of ig is set twice"),
        ("secant:qk_fix=yes", "option qk_fix is bool, not 'yes'"),
    ],
)
def test_what_cannot_be_read_is_refused(text, words):
    with pytest.raises(MethodError) as caught:
        read_method(text)
    assert words in str(caught.value)


def test_an_option_is_given_once(gpt2, pairs):
    with pytest.raises(MethodError, match="steps is given behind the method and beside it"):
        score(gpt2, pairs, "ig:steps=2", "node", steps=3)
