"""Methods and selectors of choosing as they are written on the command line."""

import pytest

from circuits.selectors import SELECTORS
from circuits.settings import Choice, read_methods, read_settings
from tasks.errors import MethodError


def test_settings_are_read_in_the_type_of_the_option():
    assert read_settings("ig", ["steps=7"]) == {"steps": 7}
    assert read_settings("relevance", ["rules=gim"]) == {"rules": "gim"}
    assert read_settings("ig", []) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps", "'steps' is not a setting; write NAME=VALUE"),
        ("stepps=3", "did you mean 'steps'?"),
        ("steps=many", "option steps is int, not 'many'"),
    ],
)
def test_settings_that_cannot_be_read(text, words):
    with pytest.raises(MethodError) as caught:
        read_settings("ig", [text])
    assert words in str(caught.value)


def test_a_setting_of_several_methods_is_written_behind_its_own():
    with pytest.raises(MethodError, match="secant,ig:steps=3"):
        read_settings("secant,ig", ["steps=3"])


def test_methods_are_parted_by_commas_and_rules_keep_theirs():
    assert read_methods("secant") == (("secant", {}),)
    assert read_methods("secant, ig:steps=3+on=activations,attribution") == (
        ("secant", {}),
        ("ig", {"steps": 3, "on": "activations"}),
        ("attribution", {}),
    )
    ruled = read_methods("relevance:rules=gim,norm=detach,secant")
    assert ruled == (("relevance", {"rules": "gim,norm=detach"}), ("secant", {}))


@pytest.mark.parametrize("text", ["", "secant,", "secant,,ig"])
def test_a_name_that_is_missing_is_an_unknown_method(text):
    with pytest.raises(MethodError, match="unknown method ''"):
        read_methods(text)


@pytest.mark.parametrize("name", SELECTORS)
def test_a_choice_reads_back(name):
    plain = Choice.read(name)
    assert plain.name == name
    assert Choice.read(plain.name) == plain
    assert set(plain.options) == set(SELECTORS[name].options)


def test_a_choice_tells_what_is_not_as_by_default():
    choice = Choice.read("iterated:steps=2+absolute=false+keep=0.7")
    assert choice.name == "iterated:steps=2+absolute=false"
    assert choice.options == {"keep": 0.7, "steps": 2, "absolute": False}
    assert Choice.read(choice.name) == choice
