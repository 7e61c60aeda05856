"""Texts are plain: no stiff words, and a reading grade that many people reach."""

import re

import pytest
import textstat
import typer

from circuits.cli.app import app
from tests.words import STIFF, pages, stiff, texts

MOST_WORDS = 900
GRADE = 11


def test_no_text_has_a_stiff_word(root):
    found = [
        f"{where}: '{word}' in '...{near}...'; write: {instead}"
        for where, text in texts(root)
        for word, instead, near in stiff(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "several, parted by commas",
        "the strongest, less those that connect nothing",
        "every estimate is held against the exact effect",
        "the names are exchanged",
        "whoever wants that",
        "a question in the place of a task",
        "the model cut alike; and more",
    ],
)
def test_a_stiff_word_is_seen(text):
    assert list(stiff(text))


def test_every_stiff_word_has_a_better_one():
    assert all(STIFF.values())


def test_the_readme_is_short(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= MOST_WORDS


def sentences(text):
    """Markdown as prose: no tables, code, pictures or marks; every line of a list is a sentence."""
    text = re.sub(r"^(?:```|~~~).*?^(?:```|~~~)", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(?:\||#|!|\$\$|:::).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", "x", text, flags=re.DOTALL)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "this", text)
    text = re.sub(r"[*_<>]", "", text)
    parts = re.split(r"\n\s*\n|\n(?=[-*\d] ?)", text)
    return " ".join(f"{' '.join(p.split()).rstrip('.:')}." for p in parts if p.strip())


def grade(text):
    return textstat.flesch_kincaid_grade(text)


def tutorials(root):
    return {p.name: t for p, t in pages(root) if p.parent.name in {"tutorials", "how-to"}}


def test_the_readme_and_the_tutorials_are_easy_to_read(root):
    readme = (root / "README.md").read_text(encoding="utf-8")
    grades = {name: grade(sentences(text)) for name, text in tutorials(root).items()}
    grades["README.md"] = grade(sentences(readme))
    assert {name: found for name, found in grades.items() if found > GRADE} == {}


def helps(group):
    """The help of every command and of all its options, as sentences."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from helps(command)
        else:
            said = (getattr(p, "help", "") or "" for p in command.params)
            yield name, [f"{text.strip().rstrip('.')}." for text in (command.help, *said) if text]


def test_help_is_easy_to_read():
    grades = {
        name: grade(re.sub(r"[\w.-]+[=:/_][\w.=:/-]+|--[\w-]+", "this", " ".join(lines)))
        for name, lines in helps(typer.main.get_command(app))
    }
    assert {name: found for name, found in grades.items() if found > GRADE} == {}
