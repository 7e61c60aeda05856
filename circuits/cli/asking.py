"""The options that say what a model is asked, and how texts are put to it."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

import typer

from circuits.cli import complete
from tasks.chat import PLAIN, TEMPLATE
from tasks.errors import TaskError, unknown

YesOrNo = Literal["yes", "no"]
CHOICES = {"yes": True, "no": False}

Task = Annotated[
    str | None,
    typer.Argument(
        autocompletion=complete.tasks,
        help="A task, or a file of prompt pairs. Leave it out with --prompt. If no split is given, "
        "nano is asked prompts it was not trained on (split=test); other models are asked all "
        "prompts (split=all).",
    ),
]
Prompt = Annotated[
    list[str] | None,
    typer.Option(help="A question of your own, instead of a task. May be repeated."),
]
Corrupted = Annotated[
    list[str] | None,
    typer.Option(help="The same question, changed so that it has another answer."),
]
Answer = Annotated[
    list[str] | None, typer.Option(help="The answer to the prompt, usually with a space: ' Paris'.")
]
Counterfactual = Annotated[
    list[str] | None, typer.Option(help="The answer to the corrupted prompt.")
]
Bos = Annotated[
    YesOrNo | None,
    typer.Option(
        "--bos",
        help="Begin every text with the beginning-of-sequence token. Default: as the "
        "model's tokenizer does.",
    ),
]
Chat = Annotated[
    bool,
    typer.Option("--chat", help="Ask in a chat turn, with the model's chat template."),
]
ChatPlain = Annotated[
    bool,
    typer.Option(
        "--chat-plain",
        help="Ask in plain chat turns (User:, Assistant:), which base models read too.",
    ),
]


class How(TypedDict):
    """What these options say, as a configuration holds it."""

    bos: bool | None
    chat: str


def how_of(bos: str | None, chat: bool, plain: bool) -> How:
    """How texts are put to the model.

    Raises:
        TaskError: `--bos` is neither yes nor no, or both forms of chat are given.
    """
    if bos is not None and bos not in CHOICES:
        raise TaskError(unknown("value of --bos", bos, CHOICES))
    if chat and plain:
        raise TaskError("--chat and --chat-plain are two forms of the same; give one of them")
    form = TEMPLATE if chat else PLAIN if plain else ""
    return How(bos=None if bos is None else CHOICES[bos], chat=form)


def questions_of(
    task: str | None,
    prompt: list[str] | None,
    corrupted: list[str] | None,
    answer: list[str] | None,
    counterfactual: list[str] | None,
) -> tuple[tuple[str, ...], ...]:
    """Questions written on the command line: every option once for each of them.

    Raises:
        TaskError: one of the options is given more often than another, or nothing is asked.
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
    if task is None and not prompt:
        raise TaskError(
            "nothing is asked; name a task ('circuits tasks') or a file of prompt pairs, or give "
            "--prompt, --corrupted, --answer and --counterfactual"
        )
    return tuple(zip(*given.values(), strict=True))
