"""The table of methods, and that the vocabulary does not need torch."""

import subprocess
import sys
from pathlib import Path

import pytest

import patching
from patching.methods import EFFECTS, METHODS, get, linearisation
from tasks.errors import MethodError


def test_the_table_is_complete():
    for name, method in METHODS.items():
        assert method.name == name
        assert method.claim
        assert method.cost
        assert method.reference
        assert method.tier in ("exact", "estimate", "choice", "set")
        for option in method.options.values():
            assert option.help
            assert isinstance(option.default, option.type)
            assert not option.allowed or option.default in option.allowed
    assert [m.name for m in METHODS.values() if m.tier == "exact"] == ["activation"]
    assert set(METHODS) - set(EFFECTS) == {"learned"}


@pytest.mark.parametrize("name", METHODS)
def test_defaults_are_filled_in_and_accepted(name):
    method = get(name)
    filled = method.check({})
    assert filled == {key: option.default for key, option in method.options.items()}
    assert method.check(filled) == filled
    if method.tier == "estimate":
        assert callable(linearisation(name, filled))
    if method.tier == "set":
        with pytest.raises(MethodError, match="does not say what one does alone"):
            linearisation(name, filled)


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(MethodError, match="unknown method 'secants'; did you mean 'secant'"):
        get("secants")


def test_all_faults_of_the_options_are_named_at_once():
    with pytest.raises(MethodError) as caught:
        get("ig").check({"steps": "many", "stps": 3, "on": "outputs", "qk_fix": 1})
    message = str(caught.value)
    assert "method 'ig' cannot run like this" in message
    assert "steps must be int, given 'many'" in message
    assert "'stps'; did you mean 'steps'" in message
    assert "unknown on 'outputs'" in message
    assert "qk_fix must be bool, given 1" in message


def test_a_method_without_options_says_so():
    with pytest.raises(MethodError, match="option of activation 'steps'; choose from: none"):
        get("activation").check({"steps": 3})


def test_numbers_pass_for_fractions_and_truth_for_neither():
    assert get("secant").check({"share": 1}) == get("secant").check({}) | {"share": 1}
    with pytest.raises(MethodError, match="share must be float, given True"):
        get("secant").check({"share": True})
    with pytest.raises(MethodError, match="steps must be int, given True"):
        get("ig").check({"steps": True})


def test_public_names_are_there_and_documented():
    assert patching.__all__ == sorted(patching.__all__)
    for name in patching.__all__:
        assert getattr(patching, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'scorer'"):
        patching.scorer  # noqa: B018


def test_no_public_name_is_hidden_by_a_module():
    """An imported submodule takes the place of a lazy name that is spelt the same."""
    modules = {path.stem for path in Path(patching.__file__).parent.glob("*.py")}
    assert not modules & set(patching.__all__)


def test_the_vocabulary_does_not_import_torch():
    modules = "patching, patching.anatomy, patching.sites, patching.scores, patching.methods"
    heavy = "'torch', 'transformers', 'transformer_lens'"
    code = f"import {modules}, sys; print([m for m in ({heavy}) if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
