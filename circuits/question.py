"""A first question to a model, without a file: its two prompts and their answers, as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.errors import TaskError

if TYPE_CHECKING:
    from graphs import CircuitGraph

Texts = str | Sequence[str]


def ask(
    prompt: Texts,
    corrupted: Texts,
    answer: Texts,
    counterfactual: Texts,
    model: Any = "nano",
    *,
    bos: bool | None = None,
    chat: bool | str = "",
    **options: Any,
) -> CircuitGraph:
    """The circuit with which `model` answers a question of your own, or several.

    `corrupted` is the same question, as long as `prompt` in tokens, changed so that its answer is
    `counterfactual`; answers are what follows their prompts, mostly with a space in front. Several
    questions are lists, one entry each. `bos` and `chat` say how they are put to the model:
    see :meth:`tasks.pairs.PromptPairs.from_texts`. All else is as for :func:`circuits.discover`.

    >>> give = "When Mary and John went to the park, {} gave the ball to"
    >>> circuits.ask(give.format("John"), give.format("Mary"), " Mary", " John", model, top=40)
    CircuitGraph(ask secant noising: ... edges)

    Raises:
        CircuitsError: as for :func:`circuits.discover`, and where the questions cannot be used.
    """
    from circuits.discover import discover
    from circuits.models import load_model
    from circuits.prompts import WRITTEN
    from tasks import PromptPairs

    columns = [
        [texts] if isinstance(texts, str) else list(texts)
        for texts in (prompt, corrupted, answer, counterfactual)
    ]
    opened = load_model(model)
    if opened.tokenizer is None:
        raise TaskError(
            "questions are text, and this model has no tokenizer; give it one, as in "
            "circuits.load_model(model, tokenizer=...), or discover on PromptPairs.from_tokens"
        )
    names = [f"question {i + 1}" for i in range(len(columns[0]))]
    pairs = PromptPairs.from_texts(
        opened.tokenizer, *columns, bos=bos, chat=chat, task=WRITTEN, where=names
    )
    return discover(pairs, opened, **options)
