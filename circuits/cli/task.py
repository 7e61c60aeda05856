"""What commands that ask a model something have in common: the task, and which pairs of it."""

from __future__ import annotations

from typing import Annotated

import typer

Task = Annotated[
    str,
    typer.Argument(
        help="A task, or a JSON-lines file of prompt pairs. Of a task, nano is asked what it was "
        "not trained on (split=test), any other model everything (split=all)."
    ),
]

ModelCorrect = Annotated[
    bool,
    typer.Option(
        "--model-correct",
        help="Only pairs on which the model prefers the right answer of both runs.",
    ),
]
