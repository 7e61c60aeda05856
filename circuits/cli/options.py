"""Options that several commands share, and what each means everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from circuits.cli import complete
from patching.choices import MetricName

Model = Annotated[
    str,
    typer.Option(
        envvar="CIRCUITS_MODEL",
        autocompletion=complete.models,
        help="What to open: see 'circuits models'.",
    ),
]
BatchSize = Annotated[
    int, typer.Option(envvar="CIRCUITS_BATCH_SIZE", help="Prompt pairs per forward pass.")
]
Memory = Annotated[
    str | None,
    typer.Option(help="What scores may take beside the model, such as 20GB."),
]
TaskOrFile = Annotated[
    str,
    typer.Argument(
        autocompletion=complete.tasks,
        help="A task, or a file of prompt pairs: JSON lines, JSON, a table with a header, Parquet. "
        "If no split is given, nano is asked prompts it was not trained on (split=test); other "
        "models are asked all prompts (split=all).",
    ),
]
ModelCorrect = Annotated[
    bool,
    typer.Option(
        "--model-correct",
        help="Keep only pairs that the model answers right, clean and corrupted.",
    ),
]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Skip rows of a file that have a fault."),
]

Metric = Annotated[
    MetricName | None, typer.Option(help="What is measured. Default: the task's own.")
]


def _compute_there(context: typer.Context, device: str | None) -> str | None:
    """Models are opened there until the command ends."""
    if device is not None:
        from circuits.models import computing_on

        context.with_resource(computing_on(device))
    return device


Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        envvar="CIRCUITS_DEVICE",
        callback=_compute_there,
        help="Where to compute: cpu, cuda, cuda:1 or mps. Default: cpu.",
    ),
]
"""Acts when it is read, so the commands themselves have no use for its value."""
