"""Which models are opened because a run folder names them."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest

from circuits.models import fingerprint
from circuits.nano import path as nano_path
from circuits.recorded import recorded_model
from circuits.results.record import ModelRecord
from tasks.errors import ModelError

HASH = "0" * 64


@pytest.fixture
def opened(monkeypatch):
    """What would be opened, by name; nothing is."""
    names = []
    monkeypatch.setattr("circuits.recorded.load_model", names.append)
    return names


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(nano_path(), tmp_path / "model"))


def used(name, files=""):
    return ModelRecord(name=str(name), path=str(name), hash=HASH, files=files)


@pytest.mark.parametrize("name", ["nano", "smollm2-135m"])
def test_models_that_are_the_same_for_everybody_are_opened(opened, name):
    recorded_model(used(name))
    assert opened == [name]


def test_a_directory_that_is_as_it_was_is_opened(opened, folder):
    recorded_model(used(folder, fingerprint(str(folder))))
    assert opened == [str(folder)]


@pytest.mark.parametrize("files", ["", HASH])
def test_a_directory_of_other_contents_is_not(opened, folder, files):
    with pytest.raises(ModelError, match=r"what is there is not what .*--model .*/model"):
        recorded_model(used(folder, files))
    assert opened == []


def test_one_that_is_gone_is_named(opened, tmp_path):
    for name in (tmp_path / "gone", tmp_path / "gone.gguf", "../gone"):
        with pytest.raises(ModelError, match="--model"):
            recorded_model(used(name, HASH))
    with pytest.raises(ModelError, match="a model in memory; name the model with --model"):
        recorded_model(used(""))
    assert opened == []


def test_what_the_user_names_is_opened_without_asking(opened, folder):
    recorded_model(used("somebody/else"), str(folder))
    assert opened == [str(folder)]


def test_nothing_is_fetched_because_a_file_says_so(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match=r"neither here nor in the Hugging Face cache"):
        recorded_model(used("somebody/model"))
    snapshot = tmp_path / "hub" / "models--somebody--model" / "snapshots" / ("a" * 40)
    shutil.copytree(nano_path(), snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a" * 40)
    recorded_model(used("somebody/model"))
    assert opened == [str(snapshot)]
