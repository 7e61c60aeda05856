"""How a circuit's picture is asked for at the command line, and the command `show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from circuits.cli import complete
from circuits.cli.output import AsJson

if TYPE_CHECKING:
    from graphs.draw import Options
FORMATS = (
    "json, graphml, mib, gexf, cytoscape, csv, neuronpedia, html, dot, svg, png or pdf. "
    "Default: from the output's suffix."
)

Width = Annotated[
    float | None, typer.Option(help="Width of a picture in inches. Default: as wide as it needs.")
]
Caption = Annotated[
    str | None,
    typer.Option(help="Text of a picture above its key; '' for none. Default: what it is of."),
]
Font = Annotated[str | None, typer.Option(help="Font of a picture.")]
Highlight = Annotated[
    list[str] | None,
    typer.Option(
        help="A node or an edge to draw strongly in a picture, the rest faintly; may be repeated."
    ),
]
Dpi = Annotated[int | None, typer.Option(help="Dots per inch of a PNG. Default: 144.")]


def options_of(
    width: float | None,
    caption: str | None,
    font: str | None,
    highlight: list[str] | None,
    dpi: int | None,
) -> Options | None:
    """What was asked of a picture; None where nothing was.

    Raises:
        FormatError: an option that cannot be used.
    """
    from graphs.draw import Options

    given: dict[str, Any] = {"width": width, "caption": caption, "font": font, "dpi": dpi}
    asked = {name: value for name, value in given.items() if value is not None}
    if highlight:
        asked["highlight"] = tuple(highlight)
    return Options(**asked) if asked else None


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("show")(show)


def show(
    source: Annotated[Path, typer.Argument(help="A run folder, or a circuit's file.")],
    form: Annotated[
        str | None, typer.Option("--format", autocompletion=complete.formats, help=FORMATS)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write. Default: the terminal."),
    ] = None,
    width: Width = None,
    caption: Caption = None,
    font: Font = None,
    highlight: Highlight = None,
    dpi: Dpi = None,
    as_json: AsJson = False,
) -> None:
    """Print what a run found, or convert its circuit to a picture or another format."""
    from circuits.cli.show import present

    present(source, form, output, as_json, options_of(width, caption, font, highlight, dpi))
