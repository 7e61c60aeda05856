"""Options written behind the name of a task."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tasks
from tasks.errors import TaskError
from tasks.written import WRITTEN, parted

NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
VALUES = st.from_regex(r"[a-z0-9+./-]{0,6}", fullmatch=True)


@given(NAMES, st.dictionaries(NAMES, VALUES, min_size=1, max_size=3))
def test_what_is_written_is_read_back(name, options):
    text = f"{name}:" + "+".join(f"{option}={value}" for option, value in options.items())
    assert parted(text) == (name, options)
    assert WRITTEN.match(text)


def test_a_plus_can_be_a_value():
    assert parted("sums:form=+") == ("sums", {"form": "+"})
    assert parted("sums:form=+++style=word") == ("sums", {"form": "++", "style": "word"})


@pytest.mark.parametrize(
    "path", ["ioi", "pairs.jsonl", "data/ioi:x=1.jsonl", "./a:b", "C:/a.jsonl"]
)
def test_names_and_paths_are_told_from_options(path):
    assert not WRITTEN.match(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mental_math:form", "'form' is not OPTION=VALUE"),
        ("mental_math:", "'' is not OPTION=VALUE"),
        ("mental_math:form=++form=-", "option form is set twice"),
        ("mental_math:shape=+", "unknown option 'shape'"),
        ("mental_math:form=*", "unknown value of option form"),
        ("metal_math:form=+", "did you mean 'mental_math'"),
        (None, "a task is named by a text such as 'ioi', given None"),
    ],
)
def test_faults_are_named(text, message):
    with pytest.raises(TaskError, match=message.replace("'*'", r"'\*'")):
        tasks.get(text)


def test_options_set_beforehand_are_those_of_the_pairs(nano_tokenizer):
    written = tasks.get("mental_math:form=-+style=question")
    given = tasks.get("mental_math").pairs(nano_tokenizer, 4, 1, form="-", style="question")
    found = written.pairs(nano_tokenizer, 4, 1)
    np.testing.assert_array_equal(found.clean, given.clean)
    assert found.texts == given.texts
    assert "form=-, style=question" in repr(written)
    assert tasks.get("mental_math").given == {}


def test_options_given_to_the_pairs_go_first(nano_tokenizer):
    written = tasks.get("mental_math:form=-")
    assert "+" in written.pairs(nano_tokenizer, 1, form="+").texts[0][0]
    with pytest.raises(TaskError, match="unknown option 'shape'"):
        written.set(shape=3)
