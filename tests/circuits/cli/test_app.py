"""The command line: what there is, what a user may get wrong, and what it costs to ask."""

import errno
import json
import resource
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

import pytest
from typer.testing import CliRunner

import circuits
import tasks
from circuits.cli.app import app
from patching.methods import METHODS
from patching.sources import NAMED


@pytest.fixture
def cli(monkeypatch, tmp_path):
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.mark.parametrize(
    ("command", "names"),
    [("tasks", tasks.names()), ("methods", list(METHODS)), ("models", ["nano", *NAMED, "ID"])],
)
def test_lists_name_everything_there_is(cli, command, names):
    done = cli(command)
    assert done.exit_code == 0
    first = [line.split()[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert set(names) <= set(first)
    listed = json.loads(cli(command, "--json").stdout)
    assert [row["name"] for row in listed][: len(names)] == names
    assert all(all(row.values()) for row in listed)
    assert not any(line.endswith(" ") for line in done.stdout.splitlines())


def test_methods_say_what_they_cost_and_how_far_to_trust_them(cli):
    text = cli("methods").stdout
    for method in METHODS.values():
        assert method.cost in text
        assert method.tier in text


@pytest.mark.parametrize("command", ["tasks", "methods", "selectors"])
def test_lists_name_every_option_with_its_default_and_choices(cli, command):
    rows = json.loads(cli(command, "--json").stdout)
    text = " ".join(cli(command).stdout.split())
    options = [(name, told) for row in rows for name, told in row.get("options", {}).items()]
    assert len(options) > 5
    for name, told in options:
        default = str(told["default"])
        default = default.lower() if isinstance(told["default"], bool) else default
        assert f"{name}={default}: {told['help']}" in text
        assert all(str(choice) in text for choice in told.get("choices", ()))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (MemoryError("Unable to allocate 9 GiB"), "out of memory; ask for less"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/a"), "left on device: runs/a"),
    ],
)
def test_a_full_machine_is_one_message_and_exit_2(cli, monkeypatch, fault, told):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr("circuits.cli.discover.carry_out", fail)
    done = cli("discover", "ioi")
    assert done.exit_code == 2
    assert done.stderr.startswith("circuits: ")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_other_errors_of_the_system_are_not_hidden(cli, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("circuits.cli.discover.carry_out", fail)
    assert isinstance(cli("discover", "ioi").exception, OSError | SystemExit)


def test_a_file_with_faults_is_refused_before_torch_is_imported(root, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    code = f"""
import sys
sys.path.insert(0, {str(root)!r})
sys.argv = ["circuits", "discover", {str(tmp_path / "empty.jsonl")!r}]
from circuits.cli.app import app
try:
    app()
except SystemExit as done:
    print(done.code, "torch" in sys.modules)
"""
    assert run_python(code).stdout == "2 False\n"


def test_the_installed_command_is_this_one(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    point = EntryPoint("circuits", project["scripts"]["circuits"], "console_scripts")
    assert point.load() is app


@pytest.mark.parametrize("command", ["discover", "ablate"])
def test_the_help_names_every_metric(cli, command):
    from patching.metrics import METRICS

    text = cli(command, "--help").stdout
    assert all(name in text for name in METRICS)


def test_version(cli):
    assert cli("--version").stdout == f"circuits {circuits.__version__}\n"


def test_no_command_is_answered_with_help(cli):
    assert "discover" in cli().output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["discover", "iou"], "unknown task 'iou'; did you mean 'ioi'? choose from: "),
        (["discover", "ioi", "--method", "relevence"], "did you mean 'relevance'?"),
        (["discover", "ioi", "--model", "nanno"], "did you mean 'nano'?"),
        (["discover", "ioi", "--set", "rules"], "write NAME=VALUE"),
        (["discover", "gone.jsonl"], "there is no file 'gone.jsonl'"),
        (["discover", "ioi", "--top", "0"], "top is 0"),
        (["show", "gone"], "there is no run or circuit at gone"),
        (["show", "gone", "--format", "sgv"], "unknown format 'sgv'; did you mean 'svg'?"),
        (["show", "gone", "-o", "picture.sgv"], "unknown suffix '.sgv'; did you mean '.svg'?"),
    ],
)
def test_a_mistake_is_one_message_and_exit_2(cli, tmp_path, arguments, words):
    done = cli(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("circuits: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_options_that_are_not_there_exit_2(cli):
    done = cli("discover", "ioi", "--metod", "ig")
    assert done.exit_code == 2
    assert "--metod" in done.stderr


def test_a_file_cannot_steer_the_terminal(cli, tmp_path):
    (tmp_path / "pairs.jsonl").write_text('{"clean": "\x1b]0;mine\x07", "\\u001b[2J": 1}')
    done = cli("discover", "pairs.jsonl")
    assert done.exit_code == 2
    assert "\\x1b" in done.stderr
    assert "\x1b" not in done.output


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


@pytest.mark.parametrize("command", ["--help", "discover --help", "tasks", "methods", "models"])
def test_asking_does_not_import_torch(root, command):
    code = f"""
import sys
sys.path.insert(0, {str(root)!r})
sys.argv = ["circuits", *{command.split()!r}]
from circuits.cli.app import app
try:
    app()
except SystemExit as done:
    assert not done.code, done.code
heavy = {{"torch", "transformers", "transformer_lens"}} & set(sys.modules)
assert not heavy, heavy
"""
    assert run_python(code).stdout


def test_help_is_quick(root):
    """Two seconds of processor time at most, best of three: a quarter on a quiet, quick one."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "circuits", "--help"]
        subprocess.run(command, cwd=root, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 2
