"""The command `show`: print a run or a circuit, or turn the circuit into another kind of file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from circuits.cli.output import print_json
from circuits.cli.printing import print_rows, print_scores
from circuits.cli.text import print_summary
from circuits.folder import CIRCUIT, FILES, PAGE, SCORES
from circuits.output import to_read
from circuits.results.record import RECORD, STRONGEST, read_record
from tasks.errors import FormatError, counted

if TYPE_CHECKING:
    from graphs import CircuitGraph
    from graphs.draw import Options
    from graphs.formats import Format


def present(
    source: Path,
    form: str | None,
    output: Path | None,
    as_json: bool = False,
    asked: Options | None = None,
) -> None:
    """Print `source`; with a format or an output file, convert its circuit instead.

    `asked` is how a picture is asked for.
    """
    from graphs.formats import find_format
    from graphs.schema import to_json
    from tasks.atomic import write_atomically

    wanted = None
    if form is not None or output is not None:
        wanted = find_format(output or "", form)
    _check(asked, wanted)
    source = to_read(source)
    if source.name == RECORD:
        source = source.parent
    if wanted is None and (source / RECORD).is_file():
        record = read_record(source / RECORD)
        if as_json:
            print_json(json.loads(record.to_json()))
            return
        print_summary(record, source, FILES)
        return
    graph = read_circuit(source)
    data = b"" if wanted is None else converted(graph, wanted, source, asked)
    if wanted is None and as_json:
        typer.echo(to_json(graph), nl=False)
    elif wanted is None:
        print_circuit(graph)
    elif output is not None:
        write_atomically(output, data)
        typer.echo(f"{output} ({wanted.description}; lost: {wanted.loses})", err=True)
    else:
        _to_terminal(data, wanted.name)


def _check(asked: Options | None, wanted: Format | None) -> None:
    """Refuse options of a picture where none is drawn."""
    from graphs.draw import DRAWN

    if asked is not None and (wanted is None or wanted.name not in DRAWN):
        kinds = ", ".join(DRAWN)
        given = "nothing is drawn" if wanted is None else f"{wanted.name} is written"
        raise FormatError(
            f"--width, --caption, --font, --highlight and --dpi are of pictures ({kinds}), and "
            f"{given}; name a picture with -o"
        )


def converted(
    graph: CircuitGraph, form: Format, source: Path, asked: Options | None = None
) -> bytes:
    """The circuit as a file's bytes; a run's MIB file has the scores of all edges.

    A run's page is the one in its folder, which knows the prompts as well.
    """
    if asked is not None:
        from graphs.draw import picture

        return picture(graph, form.name, asked)
    page, scores = source / PAGE, source / SCORES
    if form.name == "html" and page.is_file():
        return page.read_bytes()
    if form.name == "mib" and scores.is_file():
        from graphs.formats.mib import to_mib
        from patching.scores import Scores

        return to_mib(graph, Scores.load(scores)).encode()
    return form.write(graph)


def read_circuit(source: Path) -> CircuitGraph:
    """The circuit of a run folder or a file.

    Raises:
        FormatError: there is none, or it cannot be read.
    """
    from graphs import CircuitGraph

    source = to_read(source)
    if not source.exists():
        raise FormatError(f"there is no run or circuit at {source}")
    if source.is_dir() and not (source / CIRCUIT).is_file():
        raise FormatError(f"{source} holds no run and no circuit: neither {RECORD} nor {CIRCUIT}")
    return CircuitGraph.load(source / CIRCUIT if source.is_dir() else source)


def _to_terminal(data: bytes, name: str) -> None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        if sys.stdout.isatty():
            raise FormatError(f"{name} is not text; name a file with -o") from None
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        typer.echo(text, nl=not text.endswith("\n"))


def print_circuit(graph: CircuitGraph) -> None:
    """What a circuit's file says about it."""
    info, kept = graph.info, graph.info.metrics
    share = "not measured" if kept.faithfulness is None else f"{kept.faithfulness:.1%}"
    rows = {
        "task": f"{info.task or 'unknown'}, {counted(info.prompts, 'prompt pair')}",
        "model": info.model or info.model_hash or "unknown",
        "method": f"{info.method or 'unknown'}, {info.direction}",
        "faithfulness": share,
        "circuit": f"{counted(len(graph.nodes), 'node')}, {counted(len(graph.edges), 'edge')} "
        f"({info.selection.describe(graph.level)})",
    }
    print_rows(rows)
    print_scores("strongest", [(name, graph[name]) for name in graph.ranked()[:STRONGEST]])
