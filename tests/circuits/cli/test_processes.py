"""Commands in two processes write what one writes, once; torchrun starts them."""

import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pandas as pd
import pytest

import circuits
from circuits.cli.app import app
from patching import processes
from tests.every_command import COMMANDS, MADE
from tests.faults import child
from tests.ranks import ended, on_ranks

DEALT = ("discover", "evaluate", "compare", "validate", "means", "af1", "mitigate")
ABLATE = "ablate ioi a0.h1 m1 --n 4 --json"
FEW = {"discover": " --batch-size 2", "validate": " --batch-size 2", "means": " --batch-size 2"}


def said(words, folder):
    """What a command prints on both streams, and its exit code."""
    os.chdir(folder)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            app(words, prog_name="circuits")
        except SystemExit as ended:
            code = ended.code or 0
    return code, out.getvalue(), err.getvalue()


def changing(name):
    return name in ("created", "argv") or "seconds" in name


def plain(value):
    """Without what differs between any two runs."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if not changing(name)}
    return [plain(each) for each in value] if isinstance(value, list) else value


def contents(folder):
    """Every file by its name; JSON without times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            name = str(path.relative_to(folder))
            if path.suffix == ".csv":
                found[name] = pd.read_csv(path).drop(columns=["seconds", "exact"]).to_csv()
            else:
                found[name] = plain(json.loads(data)) if path.suffix == ".json" else data
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs for the commands that take some."""
    folder = tmp_path_factory.mktemp("made")
    circuits.load_model("nano")
    for line in MADE[:2]:
        assert run_once(line.split(), folder)[0] == 0
    return folder / "runs"


def run_once(words, folder):
    """The same in a single new process."""
    with child() as inside:
        if inside:
            (folder / "said").write_text(json.dumps(said(words, folder)))
    ended(1)
    told = json.loads((folder / "said").read_text())
    (folder / "said").unlink()
    return told


@pytest.mark.parametrize("name", DEALT)
def test_two_processes_write_what_one_writes(name, runs, tmp_path):
    words = (COMMANDS[name] + FEW.get(name, "")).split()
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        shutil.copytree(runs, place / "runs")
    code, out, err = run_once(words, places[0])
    assert code == 0, err
    codes, told = on_ranks(2, lambda: said(words, places[1]), tmp_path)
    assert codes == [0, 0]
    assert [each[0] for each in told] == [0, 0], told
    assert told[1][1] == ""
    assert len(told[0][1].splitlines()) == len(out.splitlines())
    one, two = (contents(place) for place in places)
    assert one.keys() == two.keys()
    for file, seen in one.items():
        assert two[file] == seen, file


def test_ablate_in_two_processes_says_what_it_says_in_one(tmp_path):
    code, out, err = run_once(ABLATE.split(), tmp_path)
    assert code == 0, err
    _, told = on_ranks(2, lambda: said(ABLATE.split(), tmp_path), tmp_path)
    assert plain(json.loads(told[0][1])) == plain(json.loads(out))
    assert told[1][1] == ""


def test_a_finished_run_is_not_done_again_by_any_process(runs, tmp_path):
    words = MADE[0].split()
    shutil.copytree(runs, tmp_path / "runs")
    before = contents(tmp_path)
    codes, told = on_ranks(2, lambda: said(words, tmp_path), tmp_path)
    assert codes == [0, 0]
    assert "nothing was computed" in told[0][1]
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before


def test_a_folder_that_must_not_be_replaced_ends_all(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    words = ["discover", "greater_than", "--n", "4", "--out", "runs/a"]
    _, told = on_ranks(2, lambda: said(words, tmp_path), tmp_path)
    assert [each[0] for each in told] == [2, 2]
    errors = [each[2] for each in told]
    assert sum("holds another run" in error for error in errors) == 1
    assert sorted(map(bool, errors)) == [False, True]


def test_python_calls_in_two_processes(runs, tmp_path):
    def work():
        graph = circuits.discover(
            "ioi", n=4, top=20, method="attribution", batch_size=2, out=tmp_path / "run"
        )
        again = circuits.discover("ioi", n=4, top=20, method="attribution", batch_size=2)
        run = circuits.load_run(tmp_path / "run")
        return processes.rank(), sorted(graph.edges), sorted(again.edges), sorted(run.graph.edges)

    codes, found = on_ranks(2, work, tmp_path)
    assert codes == [0, 0]
    assert found[0][1:] == found[1][1:]
    assert found[0][1] == found[0][2] == found[0][3]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_torchrun_starts_the_command(tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launcher += ["--master-port", "0", "--standalone", "-m", "--", "circuits"]
    words = "means ioi --n 4 --batch-size 2 --out means.safetensors --json"
    done = subprocess.run(
        [*launcher, *words.split()], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["means.safetensors"]
