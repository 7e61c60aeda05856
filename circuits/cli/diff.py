"""The command `diff`: what changed between two circuits, printed and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from circuits.cli.drawing import Caption, Dpi, Font, Highlight, Width, options_of
from circuits.cli.output import AsJson, print_json

if TYPE_CHECKING:
    from graphs import CircuitDiff, CircuitGraph

Side = Annotated[Path, typer.Argument(help="A run folder, or a circuit's file.")]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("diff")(diff)


def diff(
    left: Side,
    right: Side,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Draw both in one: .svg, .png, .pdf or .dot."),
    ] = None,
    width: Width = None,
    caption: Caption = None,
    font: Font = None,
    highlight: Highlight = None,
    dpi: Dpi = None,
    top: Annotated[
        int, typer.Option(min=0, help="How many changed edges to print on each side.")
    ] = 10,
    as_json: AsJson = False,
) -> None:
    """Print what changed from one circuit to another, and draw it."""
    from circuits.cli.printing import print_rows, print_scores
    from circuits.cli.show import read_circuit
    from graphs.diff import CircuitDiff
    from graphs.draw import draw_diff
    from tasks.errors import FormatError

    asked = options_of(width, caption, font, highlight, dpi)
    if asked is not None and output is None:
        raise FormatError("nothing is drawn; name a picture with -o")
    change = CircuitDiff(read_circuit(left), read_circuit(right))
    if output is not None:
        draw_diff(change, output, asked)
    if as_json:
        print_json(described(change))
        return
    print_rows(rows(change, left, right))
    for title, part in (("only left", change.removed), ("only right", change.added)):
        names = part.ranked()[: max(top, 0)]
        if names:
            print_scores(f"{title}, strongest", [(name, part[name]) for name in names])
    if output is not None:
        typer.echo(f"{output} (blue: only right, orange: only left, grey: both)", err=True)


def described(change: CircuitDiff) -> dict[str, Any]:
    """The names that changed, and how well the scores of the others agree."""
    return {
        "only_left": list(change.removed),
        "only_right": list(change.added),
        "both": list(change.common),
        "jaccard": change.jaccard,
        "rank_correlation": change.rank_correlation,
    }


def rows(change: CircuitDiff, left: Path, right: Path) -> dict[str, str]:
    """Label and value of what a diff says on one screen."""
    correlation = change.rank_correlation
    agreement = "not defined" if correlation is None else f"{correlation:+.3f} (Spearman)"

    def side(path: Path, graph: CircuitGraph) -> str:
        info = graph.info
        what = filter(None, (info.task, info.model, info.method, info.direction))
        share = graph.faithfulness
        kept = "" if share is None else f", faithfulness {share:.1%}"
        return f"{path}: {' '.join(what)}, {len(graph)} {graph.level}s{kept}"

    return {
        "left": side(left, change.left),
        "right": side(right, change.right),
        "changed": change.describe(),
        "scores of both": agreement,
    }
