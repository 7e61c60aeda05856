"""What commands that read prompt pairs share: the argument, and which pairs are left out."""

from __future__ import annotations

from typing import Annotated

import typer

TaskOrFile = Annotated[
    str,
    typer.Argument(
        help="A task, or a file of prompt pairs: JSON lines, JSON, a table with a header, Parquet. "
        "Of a task, nano is asked what it was not trained on (split=test), any other model "
        "everything (split=all)."
    ),
]
ModelCorrect = Annotated[
    bool,
    typer.Option(
        "--model-correct",
        help="Only pairs on which the model prefers the right answer of both runs.",
    ),
]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave out rows of a file that have a fault."),
]
