"""The options that say how texts are put to a model, of every command that makes prompts."""

from __future__ import annotations

from typing import Annotated

import typer

from tasks.chat import PLAIN, TEMPLATE
from tasks.errors import TaskError, unknown

CHOICES = {"yes": True, "no": False}

Bos = Annotated[
    str | None,
    typer.Option(
        "--bos",
        help="yes or no: begin every text with the beginning-of-sequence token. Default: as the "
        "model's tokenizer does.",
    ),
]
Chat = Annotated[
    bool,
    typer.Option("--chat", help="Ask in a chat turn, by the chat template of the model."),
]
ChatPlain = Annotated[
    bool,
    typer.Option(
        "--chat-plain",
        help="As --chat, in plain turns (User:, Assistant:) that base models read as well.",
    ),
]


def bos_of(given: str | None) -> bool | None:
    """What `--bos` says.

    Raises:
        TaskError: neither yes nor no.
    """
    if given is None:
        return None
    if given not in CHOICES:
        raise TaskError(unknown("value of --bos", given, CHOICES))
    return CHOICES[given]


def chat_of(chat: bool, plain: bool) -> str:
    """The form of chat turns that the options ask for, empty for none.

    Raises:
        TaskError: both are given.
    """
    if chat and plain:
        raise TaskError("--chat and --chat-plain are two forms of the same; give one of them")
    return TEMPLATE if chat else PLAIN if plain else ""


def questions_of(
    prompt: list[str] | None,
    corrupted: list[str] | None,
    answer: list[str] | None,
    counterfactual: list[str] | None,
) -> tuple[tuple[str, ...], ...]:
    """Questions written on the command line: every option once for each of them.

    Raises:
        TaskError: one of the options is given more often than another.
    """
    given = {
        "--prompt": prompt or [],
        "--corrupted": corrupted or [],
        "--answer": answer or [],
        "--counterfactual": counterfactual or [],
    }
    if len({len(texts) for texts in given.values()}) > 1:
        counts = ", ".join(f"{name} {len(texts)}" for name, texts in given.items())
        raise TaskError(f"a question needs each of these options once; given are {counts}")
    return tuple(zip(*given.values(), strict=True))
