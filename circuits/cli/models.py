"""The command `models`: what can be opened, what is installed, and clearing the cache."""

from __future__ import annotations

from typing import Annotated

import typer

from circuits.cli.output import AsJson


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("models")(list_models)


def list_models(
    as_json: AsJson = False,
    clear_cache: Annotated[
        bool,
        typer.Option("--clear-cache", help="Remove the models that were converted from GGUF."),
    ] = False,
) -> None:
    """List the models that open by name, and how to install them."""
    from circuits.cli.printing import printable
    from circuits.cli.text import print_list
    from circuits.lists import list_models as model_rows
    from patching.sources import cache

    if clear_cache:
        freed = cache.clear()
        typer.echo(printable(f"{freed / 1e6:,.0f} MB freed in {cache.home()}"))
        return
    print_list(model_rows(), as_json)
    if not as_json:
        typer.echo(
            printable(f"A GGUF file is converted once, into {cache.home()} (--clear-cache).")
        )
