"""The command `means`: where it cannot write, it says so before the model is opened."""

import pytest
from typer.testing import CliRunner

from circuits.cli.app import app


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("gone/means.safetensors", "there is no folder"),
        ("there.safetensors", "exists already; choose another --out"),
        ("means.safetensors", "is no folder that can be written to"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch, out, told):
    (tmp_path / "there.safetensors").touch()
    if "can be written to" in told:
        monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("circuits.models.load_model", lambda *_: pytest.fail("opened"))
    done = CliRunner().invoke(app, ["means", "ioi", "--out", str(tmp_path / out)])
    assert done.exit_code == 2
    assert told in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there.safetensors"]
