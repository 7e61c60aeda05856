"""What all commands share: files of options, JSON, how much is said, what the shell offers."""

import json
import logging

import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli import complete
from circuits.cli.app import app
from circuits.cli.config_file import defaults
from circuits.cli.output import quiet, saying, verbose
from circuits.cli.progress import shown_progress
from tasks.errors import FormatError, RunError


def cli(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_file_of_options_sets_every_option(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('task = "ioi"\ntop = 5\nbos = true\nchat = "plain"\n[options]\nsteps = 3\n')
    assert dict(defaults(path)) == {
        "task": "ioi",
        "top": 5,
        "bos": "yes",
        "chat": False,
        "chat_plain": True,
        "setting": ["steps=3"],
    }


def test_questions_of_a_run_are_asked_again(tmp_path):
    path = tmp_path / "run.json"
    asked = [["a", "b", " c", " d"], ["e", "f", " g", " h"]]
    path.write_text(json.dumps({"config": {"asked": asked, "metric": None}}))
    found = dict(defaults(path))
    assert found["prompt"] == ["a", "e"]
    assert found["counterfactual"] == [" d", " h"]
    assert "metric" not in found


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("run.toml", "tsak = 'ioi'", "unknown field 'tsak'; did you mean 'task'?"),
        ("run.json", "{}", "no run.json: it has no 'config'"),
        ("run.yaml", "task: ioi", "read from .toml or from a run.json"),
    ],
)
def test_a_wrong_file_of_options_is_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(FormatError, match=said):
        dict(defaults(tmp_path / name))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run made from a file of options, one of which the command line overrides."""
    folder = tmp_path_factory.mktemp("common")
    (folder / "run.toml").write_text('task = "ioi"\nn = 4\ntop = 60\nseed = 3\n')
    done = cli(
        "-q",
        "discover",
        "--config",
        folder / "run.toml",
        "--seed",
        1,
        "--json",
        "--out",
        folder / "run",
    )
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout) == json.loads((folder / "run" / "run.json").read_text())
    return folder / "run"


def test_the_command_line_goes_before_the_file(run):
    config = circuits.load_run(run).record.config
    assert (config["n"], config["top"], config["seed"]) == (4, 60, 1)


def test_show_prints_the_record_as_json(run):
    shown = cli("show", run, "--json")
    assert json.loads(shown.stdout) == json.loads((run / "run.json").read_text())
    circuit = cli("show", run / "circuit.json", "--json")
    assert circuit.stdout == (run / "circuit.json").read_text()


def test_a_run_says_what_it_is(run):
    loaded = circuits.load_run(run)
    assert "faithfulness" in str(loaded)
    assert circuits.CircuitGraph.load(run) == loaded.graph
    assert circuits.discover("ioi", "nano", n=4, top=60, seed=1, out=run) == loaded.graph


def test_a_run_needs_names_so_that_it_can_be_tested_again(run, tmp_path):
    model = circuits.load_model("nano")
    with pytest.raises(RunError, match="a run folder names its task and model"):
        circuits.discover("ioi", model, n=4, out=tmp_path / "run")


def test_an_evaluation_is_replaced_only_when_that_is_asked_for(run):
    first = cli("-q", "evaluate", run, "--n", 4, "--json")
    assert first.exit_code == 0, first.stderr
    assert json.loads(first.stdout) == json.loads((run / "evaluation.json").read_text())
    again = cli("-q", "evaluate", run, "--n", 4)
    assert again.exit_code == 2
    assert "was evaluated before (4 prompt pairs" in again.stderr
    elsewhere = run.parent / "elsewhere"
    assert cli("-q", "evaluate", run, "--n", 4, "--out", elsewhere).exit_code == 0
    assert sorted(path.name for path in elsewhere.iterdir()) == ["curves.svg", "evaluation.json"]
    refused = cli("-q", "evaluate", run, "--n", 4, "--out", elsewhere)
    assert "holds an evaluation already" in refused.stderr
    assert cli("-q", "evaluate", run, "--n", 4, "--force").exit_code == 0


def test_the_same_circuits_do_not_differ(run):
    told = json.loads(cli("diff", run, run, "--json").stdout)
    assert told["only_left"] == told["only_right"] == []
    assert told["jaccard"] == 1


def test_quietly_nothing_is_shown(capsys):
    with saying(True, False), shown_progress() as tell:
        assert quiet()
        tell(1, 2, "work")
    assert not quiet()
    assert capsys.readouterr().err == ""


def test_at_length_every_step_is_named_and_the_log_is_shown(capsys):
    with saying(False, True), shown_progress() as tell:
        assert verbose()
        for done in (0, 1, 2):
            tell(done, 2, "work")
        tell(0, 0, "rest")
        logging.getLogger("circuits").info("a remark")
    assert capsys.readouterr().err.splitlines() == ["work (2)", "rest", "circuits: a remark"]
    assert not logging.getLogger("circuits").handlers


def test_the_shell_offers_names():
    assert complete.methods("secant,at") == ["secant,attribution"]
    assert "ioi" in complete.tasks("io")
    assert "nano" in complete.models("")
    assert complete.selectors("acd") == ["acdc"]
    assert complete.formats("graph") == ["graphml"]
    assert "cama" not in complete.outside("")
    assert "cama" in complete.ablations("ca")


@pytest.mark.parametrize(
    ("option", "wrong", "allowed"),
    [
        ("--level", "site", ("edge", "node")),
        ("--bos", "maybe", ("yes", "no")),
        ("--direction", "up", ("noising", "denoising")),
    ],
)
def test_a_choice_is_listed_in_the_help_and_in_the_refusal(option, wrong, allowed):
    assert f"{option} <{'|'.join(allowed)}>" in cli("discover", "--help").stdout
    refused = cli("discover", "ioi", option, wrong)
    assert refused.exit_code == 2
    assert all(f"'{name}'" in refused.stderr for name in (wrong, *allowed))
