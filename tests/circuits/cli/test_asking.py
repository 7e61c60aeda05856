"""Questions on the command line, and how texts are put to a model."""

import json

import pytest
from typer.testing import CliRunner

from circuits.cli.app import app

TEXT = "When Mary and John went to the park, {} gave the ball to"
MARY = ("--prompt", TEXT.format("John"), "--answer", " Mary")
JOHN = ("--corrupted", TEXT.format("Mary"), "--counterfactual", " John")


def cli(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mine"
    done = cli("discover", *MARY, *JOHN, "--top", "30", "--bos", "yes", "--out", folder)
    assert done.exit_code == 0, done.stderr
    return folder, done.stdout


def test_a_question_needs_no_file(run):
    folder, text = run
    record = json.loads((folder / "run.json").read_text())
    asked = [[MARY[1], JOHN[1], MARY[3], JOHN[3]]]
    config = record["config"]
    assert (config["asked"], config["bos"], config["chat"]) == (asked, True, "")
    assert config["task"] is None
    assert "ask, 1 prompt pair" in text


def test_a_finished_question_is_not_asked_again(run):
    folder, _ = run
    again = cli("discover", *MARY, *JOHN, "--top", "30", "--bos", "yes", "--out", folder)
    assert again.exit_code == 0
    assert "nothing was computed" in again.stdout
    other = cli("discover", *MARY, *JOHN, "--top", "30", "--out", folder)
    assert other.exit_code == 2
    assert "bos True, now None" in other.stderr


def test_a_question_is_evaluated_on_other_prompts(run, tmp_path):
    folder, _ = run
    alone = cli("evaluate", folder)
    assert alone.exit_code == 2
    assert "every prompt of this run was used" in alone.stderr
    line = {"clean": TEXT.format("Mary"), "corrupted": TEXT.format("John")}
    line |= {"answer": " John", "counterfactual": " Mary"}
    (tmp_path / "other.jsonl").write_text(json.dumps(line))
    done = cli("evaluate", folder, "--prompts", tmp_path / "other.jsonl")
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing is asked; name a task"),
        (MARY, "--corrupted 0, --answer 1, --counterfactual 0"),
        (("ioi", *MARY, *JOHN), "a task (ioi) and questions of your own are given"),
        (("ioi", "--chat", "--chat-plain"), "two forms of the same"),
        (("ioi", "--chat"), "this model's tokenizer has no chat template"),
        ((*MARY, "--answer", " Tom", *JOHN), "--prompt 1, --corrupted 1, --answer 2"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(tmp_path, arguments, message):
    done = cli("discover", *arguments, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_what_to_know_of_the_prompts_is_printed_and_recorded(shared, tmp_path):
    model = shared / "models" / "stories260K"
    done = cli(
        *("discover", shared / "cases" / "twice.jsonl", "--model", model, "--top", "5"),
        *("--out", tmp_path / "run"),
    )
    assert done.exit_code == 0, done.stderr
    notes = json.loads((tmp_path / "run" / "run.json").read_text())["prompts"]["notes"]
    assert any("several tokens: the first one is measured" in note for note in notes)
    assert any("'time' is read as the end of the word 'atime'" in note for note in notes)
    assert "'atime'" in done.stdout


@pytest.mark.parametrize("command", [("ablate", "ioi", "a3.h0"), ("means", "ioi")])
def test_other_commands_put_texts_alike(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    told = [cli(*command, "--n", "4", *("--bos", bos) * bool(bos)) for bos in ("no", "")]
    assert [done.exit_code for done in told] == [0, 2 if command[0] == "means" else 0]
    refused = cli(*command, "--n", "4", "--chat")
    assert refused.exit_code == 2
    assert "no chat template" in refused.stderr
