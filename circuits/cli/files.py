"""What commands that read prompt pairs have in common: the argument, and `--skip-bad`."""

from __future__ import annotations

from typing import Annotated

import typer

TaskOrFile = Annotated[
    str,
    typer.Argument(
        help="A task, or a file of prompt pairs: JSON lines, JSON, a table with a header, Parquet."
    ),
]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave out rows of a file that have a fault."),
]
