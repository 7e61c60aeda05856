"""The command `view`: a circuit's page, opened in a browser or served with its model."""

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli.options import Device

if TYPE_CHECKING:
    from circuits.view import Viewed

Source = Annotated[Path, typer.Argument(help="A run folder, or a circuit's file.")]
Other = Annotated[
    Path | None, typer.Argument(help="Another, to see beside it: of another method or model.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write the page here. Default: a temporary file."),
]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Whether to open it in the browser.")]
Look = Annotated[
    bool,
    typer.Option(
        "--look",
        help="Compute tokens, attention and words with the run's model, and keep them with the "
        "run: for runs of older versions.",
    ),
]
Serve = Annotated[
    bool,
    typer.Option(
        "--serve",
        help="Serve the page on this machine with its model, so that parts can be cut and "
        "attention be asked for. Ends with Ctrl-C.",
    ),
]
Port = Annotated[int, typer.Option(help="With --serve: the port. Default: one that is free.")]
OfRun = Annotated[
    str | None, typer.Option("--model", help="The run's model, where its name alone is not enough.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("view")(view)


def view(
    source: Source,
    other: Other = None,
    output: Output = None,
    open_it: Open = True,
    look: Look = False,
    serve: Serve = False,
    port: Port = 0,
    model: OfRun = None,
    _device: Device = None,
) -> None:
    """Open a circuit's page: its prompts, attention, words and faithfulness by size."""
    from circuits.view import page_of, pages_beside, read_viewed
    from tasks.atomic import write_atomically

    viewed = read_viewed(source)
    if look:
        viewed = _looked(viewed, source, model)
    if viewed.note:
        typer.echo(viewed.note, err=True)
    if serve:
        _serve(viewed, model, port, open_it)
        return
    page = page_of(viewed) if other is None else pages_beside(viewed, read_viewed(other))
    path = output or Path(tempfile.mkdtemp(prefix="circuits-")) / "circuit.html"
    write_atomically(path, page.encode())
    typer.echo(str(path))
    if open_it and not webbrowser.open(path.resolve().as_uri()):
        typer.echo("no browser was found; open the file yourself", err=True)


def _looked(viewed: Viewed, source: Path, model: str | None) -> Viewed:
    from circuits.cli.progress import shown_progress
    from circuits.view import keep, looked

    with shown_progress() as progress:
        progress(0, 0, "looking inside")
        folder = looked(viewed, model)
    keep(folder, source)
    return folder


def _serve(viewed: Viewed, model: str | None, port: int, open_it: bool) -> None:
    from circuits.serve import served
    from circuits.view import check_servable

    check_servable(viewed)
    with served(viewed, model, port) as server:
        typer.echo(server.address)
        typer.echo("the page answers on this machine alone; end it with Ctrl-C", err=True)
        if open_it:
            webbrowser.open(server.address)
        server.serve_forever()
