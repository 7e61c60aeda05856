"""The command `models`: what is installed, what to install, and clearing the cache."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from circuits.cli.app import app
from patching.sources import NAMED, cache
from patching.sources.named import NamedModel


@pytest.fixture
def cli(monkeypatch, tmp_path):
    """Runs `models` with an empty cache, on a wide terminal."""
    monkeypatch.setenv("CIRCUITS_CACHE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "250")
    return lambda *arguments: CliRunner().invoke(app, ["models", *arguments])


def rows(cli):
    return {row["name"]: row for row in json.loads(cli("--json").stdout)}


def test_what_is_absent_has_the_line_that_installs_it(cli, monkeypatch):
    monkeypatch.setattr(NamedModel, "_paths", lambda self: [None])
    for name, model in NAMED.items():
        row = rows(cli)[name]
        assert row["state"] == f"not installed: {model.install}"
        assert row["licence"] == model.licence
        assert model.shown in row["is"]
        assert model.install in cli().stdout


def test_what_is_there_is_said_to_be(cli, monkeypatch, tmp_path):
    monkeypatch.setattr(NamedModel, "_paths", lambda self: [tmp_path])
    model = NAMED["smollm2-135m"]
    assert rows(cli)[model.name]["state"] == "installed"
    folder = cache.folder(model.sha256)
    folder.mkdir(parents=True)
    (folder / cache.ABOUT).write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(3_000_000))
    assert rows(cli)[model.name]["state"] == "installed and converted"
    monkeypatch.setattr(NamedModel, "_paths", lambda self: [None])
    assert rows(cli)[model.name]["state"] == "converted"
    cleared = cli("--clear-cache")
    assert cleared.exit_code == 0
    assert cleared.stdout.startswith("3 MB freed in ")
    assert cli("--clear-cache").stdout.startswith("0 MB freed")
    shutil.rmtree(cache.home())
    assert cli("--clear-cache").stdout.startswith("0 MB freed")


def test_a_named_model_that_is_absent_is_refused_before_anything_is_loaded(cli, monkeypatch):
    monkeypatch.setattr(NamedModel, "_paths", lambda self: [None])
    monkeypatch.setattr("circuits.cli.discover.run", lambda *_: pytest.fail("loaded"))
    done = CliRunner().invoke(app, ["discover", "ioi", "--model", "gemma3-270m"])
    assert done.exit_code == 2
    assert NAMED["gemma3-270m"].install in done.output
