"""Models by name: what is found, what is refused without loading anything."""

import os

import pytest

from circuits import nano
from circuits.models import EMBEDDED, fingerprint, load_model, locate, name_of
from tasks.errors import ModelError


def test_an_embedded_model_is_a_directory_in_the_package():
    assert locate("nano") == str(nano.path())
    assert (nano.path() / "config.json").is_file()


def test_embedded_models_are_small_enough_to_ship():
    for model in EMBEDDED.values():
        assert 0 < model.megabytes <= 16


def test_directories_and_ids_are_left_as_they_are(tmp_path):
    assert locate(str(tmp_path)) == str(tmp_path)
    assert locate("gpt2") == "gpt2"
    assert locate("EleutherAI/pythia-70m") == "EleutherAI/pythia-70m"


@pytest.mark.parametrize("name", ["nan", "Nano", "nnao", "nanoo", "gemma", "smollm2", ""])
def test_misspellings_name_the_choices(name):
    with pytest.raises(
        ModelError, match=r"choose from: gemma3-270m, nano, smollm2-135m, or a Hugging Face id"
    ):
        locate(name)


@pytest.mark.parametrize("name", ["./gone", "/gone/away", "~/gone", "models/gone/away"])
def test_a_path_that_is_not_there_is_not_taken_for_an_id(name):
    with pytest.raises(ModelError, match="there is no directory"):
        locate(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("weights.bin", "is a pickle, which can run code and is never opened"),
        ("model.safetensors", "is only the weights; give the directory that holds it"),
        ("notes.txt", "is a file, not a model"),
        ("half-00001-of-00002.gguf", "half-00002-of-00002.gguf is not there; fetch it"),
    ],
)
def test_files_that_are_no_model_are_named(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=words):
        locate(str(tmp_path / name))


def test_a_gguf_file_that_is_not_there_is_named():
    with pytest.raises(ModelError, match=r"there is no file 'gone\.gguf'"):
        locate("gone.gguf")


def test_a_pipe_among_the_files_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    assert fingerprint(str(tmp_path))


def test_the_fingerprint_follows_the_files(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    first = fingerprint(str(tmp_path))
    (tmp_path / "notes.md").write_text("not part of the model")
    assert fingerprint(str(tmp_path)) == first
    weights.write_bytes(b"two")
    assert fingerprint(str(tmp_path)) != first
    assert fingerprint("gpt2") == ""


def test_reports_name_a_model_without_the_way_to_it(tmp_path):
    assert name_of(load_model("nano").path) == "nano"
    assert name_of(str(tmp_path)) == tmp_path.name
    assert name_of("gpt2") == "gpt2"
    assert name_of("in memory") == "in memory"
