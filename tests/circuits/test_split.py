"""Which of a task's prompts a model is asked where nobody says."""

import json
from shutil import copytree

import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.config import Config
from circuits.models import EMBEDDED
from circuits.split import is_embedded, split_options, with_split
from circuits.studies.allforone.folder import SearchConfig


@pytest.mark.parametrize(
    ("task", "model", "wanted"),
    [
        ("ioi", "nano", "ioi"),
        ("ioi", "gpt2", "ioi:split=all"),
        ("mental_math:form=+-", "gpt2", "mental_math:form=+-+split=all"),
        ("ioi:split=train", "gpt2", "ioi:split=train"),
        ("emotion", "gpt2", "emotion"),
    ],
)
def test_only_the_embedded_model_is_spared_what_it_was_trained_on(task, model, wanted):
    assert with_split(task, model) == wanted
    assert Config(task=task, model=model).settled().task == wanted
    assert Config(task=task, model=model).settled().settled().task == wanted


def test_the_embedded_model_is_known_by_its_directory_too(tmp_path):
    directory = str(EMBEDDED["nano"].directory())
    assert is_embedded("nano")
    assert is_embedded(directory)
    assert not is_embedded(str(tmp_path))
    assert Config(task="ioi", model=None).settled(directory).task == "ioi"
    assert Config(task="ioi", model=None).settled(str(tmp_path)).task == "ioi:split=all"


def test_files_and_what_is_no_task_are_left_alone():
    for task in ("pairs.jsonl", "some/where.json", "nonsense", None):
        assert Config(task=task, model="gpt2").settled().task == task


def test_a_search_has_the_split_among_its_options():
    assert SearchConfig(task="mental_math", model="gpt2").settled().options == {"split": "all"}
    assert SearchConfig(task="mental_math", model="nano").settled().options == {}
    given = {"split": "test", "form": "+"}
    assert split_options("mental_math", given, "gpt2") == given


def test_help_and_the_list_of_tasks_say_so():
    run = CliRunner().invoke
    for command in ("discover", "validate", "ablate", "means"):
        text = " ".join(run(app, [command, "--help"]).stdout.replace("│", " ").split())
        assert "other models are asked all prompts (split=all)" in text, command
    assert "other models split=all" in run(app, ["tasks"]).stdout


def test_the_record_holds_the_split(tmp_path):
    model = str(copytree(EMBEDDED["nano"].directory(), tmp_path / "other"))
    arguments = ["discover", "ioi", "--model", model, "--n", "4", "--top", "5", "--out"]
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "run")])
    assert done.exit_code == 0, done.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["task"] == "ioi:split=all"
    again = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--n", "4"])
    assert again.exit_code == 0, again.stderr


def test_an_opened_model_is_known_by_where_it_came_from(tmp_path):
    other = circuits.load_model(copytree(EMBEDDED["nano"].directory(), tmp_path / "other"))
    models = {"ioi": other, "ioi:split=all": other, "ioi:split=test": "nano"}
    named, everything, held_out = (
        [item.score for item in circuits.discover(task, model, n=2, top=5).scored_edges]
        for task, model in models.items()
    )
    assert named == everything != held_out
    own = [item.score for item in circuits.discover("ioi", "nano", n=2, top=5).scored_edges]
    assert own == held_out
