"""The choices of a discovery: what is refused before anything is loaded, what makes it equal."""

from dataclasses import replace

import pytest

from circuits.config import Config, read_settings
from tasks.errors import CircuitsError, MethodError, ModelError, TaskError

IOI = Config("ioi", model=None, method="relevance")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"task": "iou"}, TaskError, "unknown task 'iou'; did you mean 'ioi'?"),
        ({"task": "nowhere.jsonl"}, TaskError, "there is no file 'nowhere.jsonl'"),
        ({"model": "nanno"}, ModelError, "unknown model 'nanno'; did you mean 'nano'?"),
        ({"model": "./nowhere"}, ModelError, "there is no directory './nowhere'"),
        ({"method": "relevence"}, MethodError, "did you mean 'relevance'?"),
        ({"level": "edges"}, MethodError, "unknown level 'edges'; did you mean 'edge'?"),
        ({"direction": "noise"}, MethodError, "did you mean 'noising'?"),
        ({"metric": "logit_dif"}, MethodError, "did you mean 'logit_diff'?"),
        ({"method": "ig", "options": {"step": 5}}, MethodError, "did you mean 'steps'?"),
        ({"method": "relevance", "options": {"rules": "relq"}}, MethodError, "relp"),
        ({"top": 0}, MethodError, "top is 0; give at least 1"),
        ({"n": 0}, MethodError, "n is 0; give at least 1"),
        ({"seed": -1}, MethodError, "seed is -1; give at least 0"),
        ({"batch_size": 0}, MethodError, "batch size is 0; give at least 1"),
    ],
)
def test_what_cannot_work_is_refused_with_the_choices(changes, error, words):
    with pytest.raises(error) as caught:
        replace(IOI, **changes).check()
    assert words in str(caught.value)


def test_all_faults_are_told_at_once():
    config = Config("iou", model="nanno", method="relevence", top=0)
    with pytest.raises(CircuitsError) as caught:
        config.check()
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert all(word in str(caught.value) for word in ("'iou'", "'nanno'", "'relevence'", "top"))


def test_a_sound_configuration_passes():
    assert IOI.check() is None


def test_n_is_resolved_by_where_the_prompts_come_from():
    assert IOI.count == 64
    assert IOI.to_json()["n"] == 64
    assert replace(IOI, n=5).count == 5
    assert Config("my.jsonl").count is None
    assert Config(None).count is None


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"top": 99}, {"method": "ig"}, {"batch_size": 8}, {"level": "node"}],
)
def test_every_choice_changes_the_digest(changes):
    assert replace(IOI, **changes).digest() != IOI.digest()


def test_a_default_written_out_is_the_same_run():
    assert replace(IOI, n=64).digest() == IOI.digest()


def test_the_files_named_count_too(tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    pairs.write_text("a")
    config = Config(str(pairs), model=str(model))
    first = config.digest()
    pairs.write_text("b")
    second = config.digest()
    (model / "config.json").write_text("[]")
    assert len({first, second, config.digest()}) == 3


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
