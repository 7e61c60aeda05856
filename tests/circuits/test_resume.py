"""Commands killed in the middle: begun again, they go on and write what they would have written."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from circuits.cli.app import app
from patching import journal
from patching.model import Model

STALLED = """
import sys, time
from patching.journal import Journal
append, done = Journal.append, []
def stall(*given):
    append(*given)
    done.append(1)
    while len(done) == int(sys.argv[1]):
        time.sleep(1)
Journal.append = stall
from circuits.cli.app import app
app(sys.argv[2:])
"""
"""A command that stands still once it has written so many shards."""
QUICK = ("--n", "8", "--batch-size", "2")
DISCOVER = ("discover", "ioi", *QUICK, "--method", "ig:steps=3,secant")
TOP = ("--top", "40")
PRUNE = ("--select", "acdc:least=0.05+start=12", "--ablation", "mean-by-position")
CHANGING = ("created", "seconds", "argv", "exact_seconds")
"""What differs between any two runs: times, and where they are written."""


def cli(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.stderr


def shards(path):
    """How many shards a journal holds."""
    count, place = 0, 32
    content = path.read_bytes() if path.exists() else b""
    while place + journal._HEAD.size <= len(content):
        place += journal._HEAD.size + journal._HEAD.unpack_from(content, place)[4]
        count += place <= len(content)
    return count


def killed(root, path, count, *arguments):
    """Run a command, and kill it once its journal holds so many shards."""
    command = [sys.executable, "-c", STALLED, str(count), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 900
    while shards(path) < count and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert shards(path) == count


@pytest.fixture
def passes(monkeypatch):
    """Counts passes through the model."""
    seen, embed = [], Model.embed
    monkeypatch.setattr(Model, "embed", lambda *given: seen.append(1) or embed(*given))
    return seen


def steady(value):
    """A JSON value without what differs between any two runs."""
    if isinstance(value, dict):
        return {name: steady(each) for name, each in value.items() if name not in CHANGING}
    return [steady(each) for each in value] if isinstance(value, list) else value


def same(folder, other):
    names = sorted(entry.name for entry in folder.iterdir())
    assert names == sorted(entry.name for entry in other.iterdir())
    for name in names:
        mine, its = (folder / name).read_bytes(), (other / name).read_bytes()
        if name.endswith(".json"):
            mine, its = steady(json.loads(mine)), steady(json.loads(its))
        if not name.endswith(".csv"):  # The seconds are among its columns.
            assert mine == its, name
    return names


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of a finished discovery."""
    home = tmp_path_factory.mktemp("resume")
    cli(*DISCOVER, *TOP, "--out", home / "whole")
    return home


@pytest.mark.parametrize(("more", "count"), [(TOP, 3), (TOP, 12), (PRUNE, 40)])
def test_a_killed_discovery_goes_on(root, runs, tmp_path, passes, more, count):
    whole = runs / "whole" if more == TOP else tmp_path / "whole"
    if more != TOP:
        cli(*DISCOVER, *more, "--out", whole)
        passes.clear()
    killed(root, tmp_path / ".ioi.journal", count, *DISCOVER, *more, "--out", tmp_path / "ioi")
    assert not (tmp_path / "ioi").exists()
    cli(*DISCOVER, *more, "--out", tmp_path / "ioi")
    resumed = len(passes)
    assert "run.json" in same(whole, tmp_path / "ioi")
    assert not (tmp_path / ".ioi.journal").exists()
    passes.clear()
    cli(*DISCOVER, *more, "--out", tmp_path / "ioi", "--force")
    assert resumed <= len(passes) - min(count, 12)


@pytest.mark.parametrize("more", [(), ("--rediscoveries", 2, "--ablation", "mean")])
def test_a_killed_evaluation_goes_on(root, runs, tmp_path, passes, more):
    # Of one name, because the picture has it.
    places = (tmp_path / home / "run" for home in ("one", "two"))
    whole, folder = (shutil.copytree(runs / "whole", place) for place in places)
    cli("evaluate", whole, *QUICK, *more)
    of_all = len(passes)
    killed(root, folder.parent / ".run.journal", 6, "evaluate", folder, *QUICK, *more)
    assert not (folder / "evaluation.json").exists()
    passes.clear()
    cli("evaluate", folder, *QUICK, *more)
    assert len(passes) <= of_all - 6
    assert "evaluation.json" in same(whole, folder)
    assert [entry.name for entry in folder.parent.iterdir()] == ["run"]


def test_a_killed_validation_goes_on(root, tmp_path, passes):
    command = ("validate", "ioi", *QUICK, "--method", "secant", "--method", "attribution")
    command += ("--kind", "z", "--kind", "mlp_out", "--sites", "5", "--out")
    cli(*command, tmp_path / "whole")
    of_all = len(passes)
    killed(root, tmp_path / ".again.journal", 10, *command, tmp_path / "again")
    passes.clear()
    cli(*command, tmp_path / "again")
    assert len(passes) <= of_all - 10
    assert "validation.json" in same(tmp_path / "whole", tmp_path / "again")
