"""The README is true: its Python runs, its commands and its tables are those of the program."""

import re
import shlex

import pytest
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from patching.methods import METHODS


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


def blocks(text, language):
    """The contents of the fenced blocks marked with `language`."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [content for marked, content in found if marked == language]


def test_the_python_runs(readme, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, *others = blocks(readme, "python")
    exec(compile(first, "README.md", "exec"), {})
    assert "faithfulness" in capsys.readouterr().out
    assert (tmp_path / "ioi.svg").is_file()
    for code in others:
        exec(compile(code, "README.md", "exec"), {})
        assert capsys.readouterr().out


def test_every_command_and_option_is_there(readme):
    lines = [line for block in blocks(readme, "") for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("circuits ")]
    assert commands
    for line in commands:
        words = shlex.split(re.split(r"\s{3,}", line)[0])
        name = words[1:3] if words[1] == "edit" else words[1:2]
        asked = CliRunner().invoke(app, [*name, "--help"])
        assert asked.exit_code == 0
        for word in words:
            if word.startswith("-"):
                assert word in asked.stdout


def test_the_edit_plan_fits_the_embedded_model(readme, tmp_path):
    (plan,) = blocks(readme, "toml")
    (tmp_path / "plan.toml").write_text(plan, encoding="utf-8")
    circuits.read_plan(tmp_path / "plan.toml").check(circuits.load_model("nano"), tmp_path / "out")


def test_make_targets_are_there(root, readme):
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make (\w+)", readme, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_table_of_methods_is_that_of_the_program(readme):
    rows = [f"| `{method.name}` | {method.claim} | {method.cost} |" for method in METHODS.values()]
    found = [line for line in readme.splitlines() if line.startswith("| `")]
    assert found == rows


def test_the_picture_and_folders_are_there(root, readme):
    for path in re.findall(r"\]\((?!https?:)([^)]+)\)", readme):
        assert (root / path).is_file(), path
    for folder in re.findall(r"^(\w+)/ ", readme, re.MULTILINE):
        assert (root / folder).is_dir(), folder


def test_the_layout_names_every_folder_of_circuits(root, readme):
    named = set(re.findall(r"^  (\w+)/ ", readme, re.MULTILINE))
    folders = {path.parent.name for path in root.glob("circuits/*/__init__.py")}
    assert folders <= named
    assert all((root / "patching" / name).is_dir() for name in named - folders)
