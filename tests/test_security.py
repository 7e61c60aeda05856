"""SECURITY.md is true of the files it names, and its tools say what they should."""

import doctest
import json
import re
import subprocess
import sys

import pytest
import typer

from circuits.cli.app import app
from tests import audit, every_command, faults, lock

FAULT = {"id": "A", "fix_versions": []}
CLEAN = {"name": "x", "version": "1", "vulns": []}
UNKNOWN = {"name": "y", "skip_reason": "not on the index"}


@pytest.fixture(scope="module")
def page(root):
    return (root / "SECURITY.md").read_text(encoding="utf-8")


def test_every_file_and_target_that_it_names_is_there(root, page):
    files = re.findall(r"`([\w/.]+\.(?:py|txt))`", page)
    assert len(files) > 5
    assert not [name for name in files if not (root / name).is_file()]
    targets = (root / "Makefile").read_text(encoding="utf-8")
    for name in re.findall(r"`make (\w+)`", page):
        assert re.search(rf"^{name}:", targets, re.MULTILINE), name


def commands(group, *before):
    for name, command in group.commands.items():
        words = *before, name
        yield from commands(command, *words) if hasattr(command, "commands") else [(words, command)]


def test_every_command_that_writes_is_killed():
    written = {"evaluate"}
    for words, command in commands(typer.main.get_command(app)):
        if {"--out", "--output"} & {option for each in command.params for option in each.opts}:
            written.add(" ".join(words))
    assert written == set(every_command.COMMANDS)


@pytest.mark.parametrize("tool", [audit, lock, every_command, faults])
def test_the_examples_of_the_tools_run(tool):
    done = doctest.testmod(tool)
    assert done.attempted
    assert not done.failed


@pytest.mark.parametrize(
    ("said", "code", "told"),
    [
        (None, 0, "known faults cannot be listed here: pip-audit, which asks for them"),
        ("", 0, "known faults cannot be listed here: pip-audit got no answer: offline"),
        ({"dependencies": []}, 0, "0 known faults of 0 packages"),
        ({"dependencies": [UNKNOWN]}, 0, "asked knows none of 1 package"),
        ({"dependencies": [UNKNOWN, CLEAN]}, 0, "1 package; nothing is known of 1 more (y)"),
        (
            {"dependencies": [{"name": "x", "version": "1", "vulns": [FAULT]}]},
            1,
            "1 known fault of 1 package\nx 1: A, mended in no version yet",
        ),
    ],
)
def test_an_audit_lists_faults_or_says_that_it_cannot(monkeypatch, capsys, said, code, told):
    def run(command, **_):
        text = said if isinstance(said, str) else json.dumps(said)
        return subprocess.CompletedProcess(command, 1, text, "some\noffline")

    monkeypatch.setattr(audit, "find_spec", lambda _: None if said is None else sys)
    monkeypatch.setattr(subprocess, "run", run)
    assert audit.main() == code
    assert told in capsys.readouterr().out
