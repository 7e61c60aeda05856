"""The run folder: complete or absent, refused or replaced, and nobody else's."""

import os
import platform
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from circuits.cli.app import app
from circuits.folder import FILES, RUN, finished
from circuits.output import guarded, written
from circuits.results.record import RECORD, read_record
from tasks.errors import RunError


def fill(folder, record):
    for name in FILES:
        (folder / name).write_text(record.to_json() if name == RECORD else name)


@pytest.fixture
def done(tmp_path, config, make_record):
    """A finished run."""
    folder = tmp_path / "run"
    folder.mkdir()
    fill(folder, make_record(config))
    return folder


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_run_appears_whole(tmp_path, config, make_record):
    folder = tmp_path / "deep" / "run"
    with written(folder, RUN.check) as partial:
        fill(partial, make_record(config))
        assert not folder.exists()
    assert names(folder) == sorted(FILES)
    assert names(folder.parent) == ["run"]
    assert finished(folder, config).config_sha256 == config.digest()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_leaves_nothing(tmp_path, error):
    with pytest.raises(error), written(tmp_path / "run", RUN.check) as partial:
        (partial / "half").write_text("")
        raise error
    assert names(tmp_path) == []


def test_an_interrupted_replacement_leaves_the_old_run(done):
    before = (done / RECORD).read_text()
    with pytest.raises(KeyboardInterrupt), written(done, RUN.check):
        raise KeyboardInterrupt
    assert (done / RECORD).read_text() == before
    assert names(done.parent) == ["run"]


def test_an_absent_or_empty_folder_is_free(tmp_path, config, make_record):
    assert finished(tmp_path / "run", config) is None
    (tmp_path / "run").mkdir()
    assert finished(tmp_path / "run", config) is None
    with written(tmp_path / "run", RUN.check) as partial:
        fill(partial, make_record(config))
    assert names(tmp_path / "run") == sorted(FILES)


def test_the_same_run_is_found_again(done, config):
    assert finished(done, config).circuit.edges == 2


def test_the_same_run_is_done_again_where_a_file_is_missing(done, config):
    (done / "circuit.json").unlink()
    assert finished(done, config) is None


def test_another_run_is_refused_and_the_difference_told(done, config):
    with pytest.raises(RunError) as caught:
        finished(done, replace(config, top=3, method="ig"))
    text = str(caught.value)
    assert "method 'relevance', now 'ig'" in text
    assert "top 2, now 3" in text
    assert "--force" in text


def test_another_run_gives_way_to_force(done, config, make_record):
    other = replace(config, top=3)
    assert finished(done, other, force=True) is None
    with written(done, RUN.check) as partial:
        fill(partial, make_record(other))
    assert finished(done, other) is not None
    assert names(done.parent) == ["run"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("file", "text"),
    [("thesis.tex", "years of work"), ("run.json", '{"kind": "marathon"}'), ("run.json", "{")],
)
def test_a_folder_that_is_no_run_is_never_replaced(tmp_path, config, force, file, text):
    (tmp_path / file).write_text(text)
    with pytest.raises(RunError, match="not a run"):
        finished(tmp_path, config, force)
    with pytest.raises(RunError), written(tmp_path, RUN.check):
        pass
    assert (tmp_path / file).read_text() == text


@pytest.mark.parametrize("force", [False, True])
def test_a_run_with_files_beside_it_is_never_replaced(done, config, force):
    (done / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match=r"files beside its run \(thesis.tex\)"):
        finished(done, replace(config, top=3), force)
    with pytest.raises(RunError), written(done, RUN.check):
        pass
    assert names(done) == sorted([*FILES, "thesis.tex"])
    assert names(done.parent) == ["run"]


@pytest.mark.parametrize("force", [False, True])
def test_a_file_is_not_taken_for_a_folder(tmp_path, config, force):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, match="is a file"):
        finished(tmp_path / "run", config, force)


def test_a_place_under_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"), guarded(tmp_path / "file" / "run"):
        pass


def test_files_that_were_written_for_the_owner_alone_are_as_open_as_the_folder(tmp_path):
    with written(tmp_path / "run", RUN.check) as partial:
        (partial / "model").mkdir()
        for name in ("scores.safetensors", "model/model.safetensors"):
            (partial / name).touch(mode=0o600)
            (partial / name).chmod(0o600)
        (partial / "plain").touch()
    modes = {path.stat().st_mode for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert len(modes) == 1


def test_a_run_that_appears_meanwhile_is_kept(tmp_path, config, make_record):
    folder = tmp_path / "run"
    other = make_record(replace(config, top=9))
    with (
        pytest.raises(RunError, match=r"is kept in .*run-2"),
        written(folder, RUN.check) as partial,
    ):
        fill(partial, other)
        folder.mkdir()
        fill(folder, make_record(config))
    assert finished(folder, config) is not None
    assert read_record(tmp_path / "run-2" / RECORD) == other
    assert names(tmp_path) == ["run", "run-2"]


@pytest.fixture
def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_is_cleared_away(tmp_path, config, dead_pid):
    left = tmp_path / f".run.{platform.node()}.{dead_pid}.partial"
    mine = tmp_path / f".run.{platform.node()}.{os.getpid()}.partial"
    other = tmp_path / f".other.{platform.node()}.{dead_pid}.partial"
    for folder in (left, mine, other):
        folder.mkdir()
    with guarded(tmp_path / "run"):
        assert finished(tmp_path / "run", config) is None
    assert names(tmp_path) == sorted([mine.name, other.name])


def test_a_run_set_aside_by_a_killed_process_is_put_back(done, config, dead_pid):
    done.rename(done.with_name(f".run.{platform.node()}.{dead_pid}.old"))
    assert CliRunner().invoke(app, ["show", str(done)]).exit_code == 0
    with guarded(done):
        assert finished(done, config) is not None
    assert names(done.parent) == ["run"]


def test_odd_names_of_folders_work(tmp_path, config, make_record, dead_pid):
    folder = tmp_path / "run [1] *"
    (tmp_path / f".run [1] *.{platform.node()}.{dead_pid}.partial").mkdir()
    with guarded(folder), written(folder, RUN.check) as partial:
        fill(partial, make_record(config))
    assert names(tmp_path) == ["run [1] *"]
