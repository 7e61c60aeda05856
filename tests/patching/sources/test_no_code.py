"""Nothing that a model brings along ever runs, whatever its files say and whoever agrees to it."""

import io
import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.nano import path as nano_path
from patching.loading import load_tokenizer, load_weights
from tasks.errors import ModelError

MAP = {
    "AutoConfig": "harm.HarmConfig",
    "AutoModelForCausalLM": "harm.HarmModel",
    "AutoTokenizer": ["harm.HarmTokenizer", None],
}


@pytest.fixture(autouse=True)
def agreeing(monkeypatch):
    """Somebody answers yes to every question, and the environment allows all there is."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 50))
    for name in ("HF_HUB_TRUST_REMOTE_CODE", "TRUST_REMOTE_CODE", "HF_TRUST_REMOTE_CODE"):
        monkeypatch.setenv(name, "1")


@pytest.fixture
def harmful(tmp_path):
    """A copy of the embedded model whose every file of code would leave a marker."""

    def make(**files):
        folder = Path(shutil.copytree(nano_path(), tmp_path / "harmful"))
        code = (
            f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
            "class HarmConfig: pass\nclass HarmModel: pass\nclass HarmTokenizer: pass\n"
            "def generate(*_, **__): pass\n"
        )
        (folder / "custom_generate").mkdir()
        for name in ("harm.py", "custom_generate/generate.py", "modeling.py", "__init__.py"):
            (folder / name).write_text(code)
        for name, changes in files.items():
            path = folder / f"{name}.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return folder

    return make


@pytest.fixture
def ran(tmp_path):
    """The marker; it must never be there."""
    yield tmp_path / "ran"
    assert not (tmp_path / "ran").exists()


CONSENT = {"auto_map": MAP, "trust_remote_code": True, "custom_generate": True}


@pytest.mark.parametrize("kind", ["gpt2", "harm"])
def test_code_of_a_model_never_runs(harmful, ran, kind):
    folder = harmful(config=CONSENT | {"model_type": kind}, generation_config=CONSENT)
    if kind == "gpt2":
        found = circuits.load_model(folder)
        assert type(load_weights(str(folder), torch.float32)).__name__ == "GPT2LMHeadModel"
        assert found.hash
    else:
        with pytest.raises(ModelError, match="circuits never runs a model's code"):
            circuits.load_model(folder)


def test_code_of_a_tokenizer_of_an_unknown_model_never_runs(harmful, ran):
    tokenizer = CONSENT | {"tokenizer_class": "HarmTokenizer"}
    folder = harmful(tokenizer_config=tokenizer, config={"model_type": "harm"})
    with pytest.raises(ModelError, match="circuits never runs a model's code"):
        load_tokenizer(str(folder))


def test_code_of_a_tokenizer_never_runs(harmful, ran):
    folder = harmful(tokenizer_config=CONSENT | {"tokenizer_class": "HarmTokenizer"})
    found, plain = load_tokenizer(str(folder)), load_tokenizer(nano_path())
    assert found("Mary and John")["input_ids"] == plain("Mary and John")["input_ids"]
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    with pytest.raises(ModelError, match="cannot open the tokenizer"):
        load_tokenizer(str(folder))


def test_a_run_that_names_such_a_model_runs_nothing(harmful, ran, tmp_path):
    folder, run = harmful(), tmp_path / "run"
    made = CliRunner().invoke(
        app, ["discover", "ioi", "--model", str(folder), "--n", "4", "--out", str(run)]
    )
    assert made.exit_code == 0, made.output
    for name, kind in (("config", "harm"), ("tokenizer_config", None)):
        path = folder / f"{name}.json"
        changes = {"auto_map": MAP, "tokenizer_class": "HarmTokenizer"}
        changes |= {} if kind is None else {"model_type": kind}
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    for more, words in (
        ([], "what is there is not what the run was made with"),
        (["--model", str(folder)], "circuits never runs a model's code"),
    ):
        done = CliRunner().invoke(app, ["evaluate", str(run), *more], input="y\ny\ny\n")
        assert done.exit_code == 2
        assert words in done.output


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub cache with one model, `somebody/model`."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    snapshot = cache / "models--somebody--model" / "snapshots" / ("a" * 40)
    shutil.copytree(nano_path(), snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a" * 40)
    return snapshot


def test_a_hub_id_is_opened_from_its_cache(hub):
    assert circuits.load_model("somebody/model").hash == circuits.load_model("nano").hash


def test_a_hub_id_whose_weights_are_a_pickle_is_refused(hub):
    weights = load_weights(str(hub), torch.float32).state_dict()
    (hub / "model.safetensors").unlink()
    torch.save(weights, hub / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"'somebody/model'.* a pickle can run code") as caught:
        circuits.load_model("somebody/model")
    assert "use_safetensors" not in str(caught.value)
