"""The argument TASK of commands that ask a model something."""

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
