"""The option `--device` of every command that opens a model."""

from __future__ import annotations

from typing import Annotated

import typer


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
