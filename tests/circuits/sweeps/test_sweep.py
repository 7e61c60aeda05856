"""Sweeps of the embedded model: resumed after kills, with failures in their rows."""

import json
import signal
import subprocess
import sys
import time
import types

import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.sweeps import slurm
from circuits.sweeps.grid import read_grid
from circuits.sweeps.local import Room, Worker
from circuits.sweeps.sweep import unfinished
from tasks.errors import RunError

FEW = """
models = ["nano"]
tasks = ["ioi"]
methods = ["attribution", "secant"]
[options]
n = 4
top = 12
"""
TWELVE = FEW + "\n"
TWELVE = TWELVE.replace("[options]", "seeds = [0, 1, 2, 3, 4, 5]\n[options]")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "few.toml").write_text(FEW)
    (tmp_path / "twelve.toml").write_text(TWELVE)
    return tmp_path


def cli(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def records(out):
    """Of every complete cell when it was made, and which file that is."""
    paths = [path for path in out.glob("*/run.json") if not path.parent.name.startswith(".")]
    return {path.parent.name: (path.stat().st_ino, path.read_bytes()) for path in paths}


def begun(place):
    words = [sys.executable, "-m", "circuits", "-q", "sweep", "twelve.toml", "--out", "runs"]
    return subprocess.Popen([*words, "--json"], cwd=place, stdout=subprocess.PIPE, text=True)


def test_a_sweep_killed_twice_completes_and_does_nothing_twice(place):
    out, seen = place / "runs", {}
    for wanted in (2, 5):
        process = begun(place)
        until = time.monotonic() + 400
        while len(records(out)) < wanted and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        assert len(records(out)) >= wanted
        assert not (out / "sweep.json").exists()
        seen |= {name: found for name, found in records(out).items() if name not in seen}
    process = begun(place)
    told, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    rows = json.loads(told)["cells"]
    assert [row["state"] for row in rows] == ["done"] * 12
    after = records(out)
    assert len(after) == 12
    assert {name: after[name] for name in seen} == seen
    for name in after:
        assert circuits.load_run(out / name).graph.edges
    assert not list(out.rglob(".*"))
    assert json.loads((out / "sweep.json").read_text())["cells"] == rows


def test_failures_stand_in_their_rows_and_the_others_go_on(place, monkeypatch):
    asked = Worker.asked

    def failing(self, order):
        if order["config"]["method"] == "secant":
            return {"fault": "out of <memory>", "peak": 7}
        return asked(self, order)

    monkeypatch.setattr(Worker, "asked", failing)
    done = cli("sweep", place / "few.toml", "--out", place / "runs")
    assert done.exit_code == 2
    assert "1 of 2 cells are complete" in done.stdout
    assert "failed: out of <memory>" in done.stdout
    assert "1 of 2 cells are not complete; the same command tries them again" in done.stderr
    page = (place / "runs" / "sweep.html").read_text()
    assert "out of &lt;memory&gt;" in page
    assert '<a href="nano-ioi-attribution-0/circuit.html">' in page
    assert "out of \\<memory\\>" in (place / "runs" / "sweep.md").read_text()
    before = records(place / "runs")

    monkeypatch.setattr(Worker, "asked", asked)
    table = circuits.sweep(place / "few.toml", place / "runs", jobs=2)
    assert not table.failed
    assert all(table.to_frame()["edges"] >= 12)
    assert records(place / "runs").items() >= before.items()


def test_one_cell_and_the_lines_for_other_schedulers(place):
    out = place / "runs"
    done = cli("sweep", place / "few.toml", "--out", out, "--dry-run")
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(f"sweep {place / 'few.toml'} --out {out} --cell nano-ioi" in line for line in lines)
    name = lines[0].split("--cell ")[1]
    assert cli("sweep", place / "few.toml", "--out", out, "--cell", name).exit_code == 0
    assert list(records(out)) == [name]
    assert len(cli("sweep", place / "few.toml", "--out", out, "--dry-run").stdout.splitlines()) == 1
    wrong = cli("sweep", place / "few.toml", "--out", out, "--cell", "nano-ioi")
    assert wrong.exit_code == 2
    assert "unknown cell 'nano-ioi'" in wrong.stderr


def test_a_folder_of_something_else_is_refused_before_anything_begins(place):
    grid = read_grid(place / "few.toml")
    (place / "runs" / grid.cells[1].name).mkdir(parents=True)
    (place / "runs" / grid.cells[1].name / "letters.txt").write_text("mine")
    with pytest.raises(RunError, match="nothing was begun"):
        unfinished(grid, place / "runs")
    assert not (place / "runs" / grid.cells[0].name).exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jobs", "0"], "jobs is 0"),
        (["--runner", "kubernetes"], "unknown runner 'kubernetes'"),
    ],
)
def test_what_no_sweep_can_do_is_refused(place, words, said):
    done = cli("sweep", place / "few.toml", "--out", place / "runs", *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (place / "runs").exists()


def test_a_worker_that_is_killed_is_a_failure_with_its_signal(monkeypatch):
    worker = Worker()
    slow = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    monkeypatch.setattr(worker, "_begun", lambda: subprocess.Popen(slow, **pipes))
    answer = worker.asked({"config": {}})
    assert answer["fault"] == "its process was ended by SIGKILL; perhaps memory ran out"
    worker.stop()


def test_a_worker_ends_when_its_sweep_does():
    process = Worker._begun()
    process.stdin.close()
    assert process.wait(60) == 3
    process.stdout.close()


def test_cells_wait_for_memory_and_for_what_is_unknown():
    free = [100.0]
    room = Room(free=lambda: free[0])
    room.enter("a")
    assert not room._fits("a")
    assert not room._fits("b")
    room.leave("a", 60)
    room.enter("a")
    assert room._fits("a")
    assert room._fits("b")
    free[0] = 59.0
    assert not room._fits("a")
    room.leave("a", 70)
    assert room._fits("a")
    assert room.peaks == {"a": 70}


class Job:
    """As submitit's: it runs when its result is asked for."""

    job_id = "1_0"

    def __init__(self, words):
        self.words = words

    def result(self):
        done = cli(*self.words[4:])
        self.said = done.stderr
        if done.exit_code:
            raise RuntimeError("the job failed with exit code 2")

    def stderr(self):
        return self.said


def submitit():
    """A package that does what submitit does, in this process."""

    class AutoExecutor:
        def __init__(self, folder, cluster):
            self.given = {}

        def update_parameters(self, **given):
            if "timeout" in given:
                raise NameError("unknown parameter timeout")

        def batch(self):
            import contextlib

            return contextlib.nullcontext()

        def submit(self, words):
            return Job(words)

    helpers = types.SimpleNamespace(CommandFunction=lambda words: words)
    return types.SimpleNamespace(AutoExecutor=AutoExecutor, helpers=helpers)


def test_the_scheduler_carries_out_cells(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", submitit())
    table = circuits.sweep(place / "few.toml", place / "runs", runner="slurm")
    assert [row.state for row in table.rows] == ["done", "done"]
    (place / "few.toml").write_text(FEW + "[slurm]\ntimeout = 3\n")
    (place / "runs" / table.rows[0].cell / "run.json").unlink()
    for file in (place / "runs" / table.rows[0].cell).iterdir():
        file.unlink()
    with pytest.raises(RunError, match="took no jobs: unknown parameter timeout"):
        circuits.sweep(place / "few.toml", place / "runs", runner="slurm")


def test_without_submitit_the_way_out_is_said(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RunError, match="install circuits-engine\\[cluster\\], or hand the lines"):
        circuits.sweep(place / "few.toml", place / "runs", runner="slurm")


def test_submitit_itself_carries_out_cells(place):
    pytest.importorskip("submitit", reason="submitit (the extra cluster) is not installed")
    grid, ended = read_grid(place / "few.toml"), {}
    out = place / "runs"
    slurm.carry_out(
        grid,
        grid.cells[:1],
        out,
        lambda cell, fault: ended.update({cell.name: fault}),
        None,
        "local",
    )
    assert ended == {grid.cells[0].name: ""}
    assert list(records(out)) == [grid.cells[0].name]
