"""Options that several commands share, and what each means everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[str, typer.Option(help="What to open: see 'circuits models'.")]
BatchSize = Annotated[int, typer.Option(help="Prompt pairs per forward pass.")]
Memory = Annotated[
    str | None,
    typer.Option(help="What scores may take beside the model, such as 20GB."),
]
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

NAMES = "logit_diff, prob_diff, log_prob, answer_logit or sequence_log_prob"
"""Those of patching.metrics, which takes torch to be asked."""

Metric = Annotated[str | None, typer.Option(help=f"{NAMES}. Default: the task's own.")]


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
        callback=_compute_there,
        help="Where to compute: cpu, cuda, cuda:1 or mps. Default: cpu.",
    ),
]
"""Acts when it is read, so the commands themselves have no use for its value."""
