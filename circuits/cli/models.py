"""The command `models`: what can be opened, what is installed, and clearing the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from circuits.cli.text import Row
    from patching.sources.named import NamedModel


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("models")(list_models)


def list_models(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, for other programs.")
    ] = False,
    clear_cache: Annotated[
        bool,
        typer.Option("--clear-cache", help="Remove the models that were converted from GGUF."),
    ] = False,
) -> None:
    """What can be opened, and how real language models are installed."""
    from circuits.cli.printing import printable
    from circuits.cli.text import print_list
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


def model_rows() -> list[Row]:
    """Embedded models, those in packages, and the other ways to name one."""
    from circuits.models import EMBEDDED
    from patching.sources import NAMED

    embedded: list[Row] = [
        {
            "name": model.name,
            "is": model.claim,
            "state": "ships with circuits",
            "licence": model.licence,
            "size": f"{model.megabytes:.1f} MB",
            "shape": model.shape,
        }
        for model in EMBEDDED.values()
    ]
    others: list[Row] = [
        {
            "name": "ID",
            "is": "a causal language model on the Hugging Face hub, such as gpt2",
            "costs": "a download, unless it is in the cache",
        },
        {
            "name": "DIRECTORY",
            "is": "a folder with config.json and model.safetensors",
            "costs": "no network",
        },
        {
            "name": "FILE.gguf",
            "is": "a model in a GGUF file",
            "costs": "no network; converted once, to safetensors of float32",
        },
    ]
    return [*embedded, *map(_row, NAMED.values()), *others]


def _row(model: NamedModel) -> Row:
    return {
        "name": model.name,
        "is": f"{model.shown}: {model.claim}",
        "state": _state(model),
        "licence": model.licence,
        "size": f"{model.megabytes} MB to install",
        "shape": model.shape,
    }


def _state(model: NamedModel) -> str:
    if model.converted:
        return "installed and converted" if model.installed else "converted"
    return "installed" if model.installed else f"not installed: {model.install}"
