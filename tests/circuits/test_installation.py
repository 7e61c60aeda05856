"""The doctor says what is installed, and what does not work."""

import json

from typer.testing import CliRunner

from circuits import installation
from circuits.cli.app import app


def test_all_is_well_here(monkeypatch, tmp_path):
    monkeypatch.setenv("CIRCUITS_CACHE", str(tmp_path / "cache"))
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["models"]["nano"] == "built in"
    assert found["versions"]["torch"] != installation.MISSING
    assert found["cache"] == str(tmp_path / "cache" / "models")
    assert all(check["works"] for check in found["checks"])


def test_what_fails_is_told_and_ends_with_2(monkeypatch):
    def broken():
        raise OSError("the disk is full")

    monkeypatch.setattr(installation, "_cache", broken)
    monkeypatch.setattr(installation, "_model", lambda: "fine")
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 2
    assert "FAILS: the disk is full" in done.stdout
    assert "works: fine" in done.stdout


def test_a_missing_library_is_called_that():
    assert installation._version("no-such-library") == installation.MISSING
