"""One writer at a time, by a lock; files whole or as before, whatever disturbs."""

import json
import logging
import os
import platform
import subprocess
import sys
import threading

import pytest

from circuits.folder import RUN
from circuits.lock import locked, owner_of
from circuits.output import guarded, to_read, write_file, written
from tasks.atomic import replacing, write_atomically
from tasks.errors import FormatError, RunError

LONG = "n" * 245


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def run_json(mark):
    return json.dumps({"kind": RUN.kind, "mark": mark})


def write_run(folder, mark):
    with written(folder, RUN.check) as partial:
        (partial / "run.json").write_text(run_json(mark))


def faults(root, *words):
    command = [sys.executable, "-m", "tests.faults", *map(str, words)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("scenario", "fault", "least"),
    [
        *(("new", "kill", 15), ("replace", "kill", 20), ("evaluate", "kill", 30)),
        *(("file", "kill", 8), ("export", "kill", 3)),
        *(("replace", "interrupt", 20), ("replace", "full", 20), ("file", "full", 8)),
    ],
)
def test_a_fault_at_any_event_of_a_file_leaves_the_old_or_the_new(
    root, tmp_path, scenario, fault, least
):
    assert int(faults(root, scenario, fault, tmp_path)) >= least


@pytest.mark.parametrize(
    ("kind", "left"),
    [("run", "['run']"), ("file", "['means']"), ("end", "['run', 'run-2']")],
)
def test_of_two_processes_one_wins_and_nothing_is_lost(root, tmp_path, kind, left):
    """Races from the start are refused; at the end, the later result is kept beside the other."""
    assert faults(root, "race", kind, tmp_path).splitlines() == [f"[0, 2] {left}"] * 50
    for place in tmp_path.iterdir():
        marks = {
            json.loads(file.read_text())["mark"] if file.suffix else file.read_text()
            for file in (*place.rglob("run.json"), *place.glob("means"))
        }
        assert marks == ({"a", "b"} if kind == "end" else marks & {"a", "b"})
        assert marks


def test_a_place_in_use_is_refused_to_other_threads_and_not_to_this_one(tmp_path):
    faults = []

    def other():
        with pytest.raises(RunError) as caught, guarded(tmp_path / "run"):
            pass
        faults.append(str(caught.value))

    with guarded(tmp_path / "run"), guarded(tmp_path / "run"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    who = f"process {os.getpid()} on {platform.node()}"
    assert f"run is being written by {who}" in faults[0]
    assert names(tmp_path) == []
    with guarded(tmp_path / "run"):
        assert owner_of(tmp_path / "run").is_this_thread


def test_the_lock_of_another_machine_is_respected(tmp_path):
    lock = tmp_path / ".run.lock"
    owner = {"host": "elsewhere", "process": 1, "thread": 1, "since": "noon", "before": ""}
    lock.write_text(json.dumps(owner))
    told = r"process 1 on elsewhere, since noon; if that has ended, delete .*\.run\.lock"
    with pytest.raises(RunError, match=told), guarded(tmp_path / "run"):
        pass
    assert json.loads(lock.read_text()) == owner


def test_the_lock_of_a_dead_process_is_taken_over_and_that_is_said(tmp_path, caplog):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    owner = {"host": platform.node(), "process": process.pid, "thread": 1}
    owner |= {"since": "noon", "before": ""}
    (tmp_path / ".run.lock").write_text(json.dumps(owner))
    with caplog.at_level(logging.WARNING, "circuits"), guarded(tmp_path / "run"):
        write_run(tmp_path / "run", "mine")
    assert f"was left by process {process.pid}" in caplog.text
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize("text", ["", "null", "[1]", "{", '{"host": 1}'])
def test_a_lock_file_that_says_nothing_is_taken_over(tmp_path, text):
    (tmp_path / ".run.lock").write_text(text)
    with guarded(tmp_path / "run"):
        write_run(tmp_path / "run", "mine")
    assert names(tmp_path) == ["run"]


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / ".run.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match="cannot be written"), guarded(tmp_path / "run"):
        pass
    assert not (tmp_path / "precious").exists()


def test_what_was_not_there_at_the_start_is_never_replaced(tmp_path):
    """Whoever put it there, and with --force too: the result is kept beside it."""
    place = tmp_path / "run"
    with (
        pytest.raises(RunError, match=r"this result is kept in .*run-2$"),
        RUN.reserved(place, force=True),
    ):
        place.mkdir()
        (place / "run.json").write_text(run_json("theirs"))
        write_run(place, "mine")
    assert (place / "run.json").read_text() == run_json("theirs")
    assert (tmp_path / "run-2" / "run.json").read_text() == run_json("mine")
    assert names(tmp_path) == ["run", "run-2"]


def test_a_file_is_kept_beside_one_that_has_appeared_meanwhile(tmp_path):
    place = tmp_path / "means.safetensors"
    (tmp_path / "means-2.safetensors").write_text("older")
    with pytest.raises(RunError, match=r"kept in .*means-3\.safetensors"), guarded(place):
        place.write_text("theirs")
        write_file(place, lambda path: write_atomically(path, b"mine"))
    texts = [path.read_text() for path in sorted(tmp_path.iterdir())]
    assert texts == ["older", "mine", "theirs"]


def test_a_library_call_finds_the_lock_of_a_command_only_at_the_end(tmp_path):
    place, entered, end = tmp_path / "run", threading.Event(), threading.Event()

    def command():
        with locked(place):
            entered.set()
            end.wait(60)

    thread = threading.Thread(target=command)
    thread.start()
    entered.wait(60)
    with pytest.raises(RunError, match=r"kept in .*run-2"):
        write_run(place, "mine")
    end.set()
    thread.join()
    assert names(tmp_path) == ["run-2"]


def test_folders_that_were_made_for_nothing_are_gone(tmp_path):
    with guarded(tmp_path / "deep" / "er" / "run"):
        assert (tmp_path / "deep" / "er").is_dir()
    assert names(tmp_path) == []


def test_long_names_can_be_written(tmp_path):
    with RUN.reserved(tmp_path / LONG):
        write_run(tmp_path / LONG, "mine")
    write_atomically(tmp_path / f"{LONG}.json", b"{}")
    assert names(tmp_path) == [LONG, f"{LONG}.json"]


@pytest.mark.parametrize("name", ["n" * 300, "a/../../" + "n" * 256, "nul\0"])
def test_names_that_nothing_can_have_are_refused(tmp_path, name):
    with pytest.raises(RunError, match="cannot be written"), guarded(tmp_path / name):
        pass
    with pytest.raises(FormatError, match="cannot write"):
        write_atomically(tmp_path / name, b"")
    assert names(tmp_path) == []


def test_a_temporary_name_cannot_be_foreseen_and_follows_no_link(tmp_path, monkeypatch):
    seen = []
    for _ in range(2):
        with replacing(tmp_path / "file") as file:
            seen += names(tmp_path)
            file.write(b"x")
    first, second = (name for name in seen if name.endswith(".partial"))
    assert first != second
    # Even where it is known, a link of that name is not written through.
    monkeypatch.setattr("tasks.atomic.token_hex", lambda _: "0")
    trap = tmp_path / f".file.{platform.node()}.{os.getpid()}.0.partial"
    trap.symlink_to(tmp_path / "precious")
    with pytest.raises(FormatError, match="cannot write"):
        write_atomically(tmp_path / "file", b"y")
    assert not (tmp_path / "precious").exists()


def test_what_a_killed_writer_left_of_a_file_goes_with_the_next(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    (tmp_path / f".file.{platform.node()}.{process.pid}.ab.partial").touch()
    write_atomically(tmp_path / "file", b"x")
    assert names(tmp_path) == ["file"]


def test_a_run_that_a_kill_set_aside_is_read_where_it_is(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert to_read(tmp_path / "run") == tmp_path / "run"
    aside = tmp_path / f".run.{platform.node()}.{process.pid}.ab.old"
    aside.mkdir()
    assert to_read(tmp_path / "run") == aside
