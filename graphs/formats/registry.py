"""The table of formats: name, suffix, writer, reader, and what a file of it does not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from graphs import schema
from graphs.circuit import CircuitGraph
from graphs.draw import picture
from graphs.files import read_bytes, read_json
from graphs.formats import mib, xml
from graphs.formats.cytoscape import to_cytoscape
from graphs.formats.neuronpedia import to_neuronpedia
from graphs.formats.table import to_csv
from graphs.page import MOST_EDGES, to_html
from tasks.atomic import write_atomically
from tasks.errors import FormatError, unknown

Writer = Callable[[CircuitGraph], bytes]
Reader = Callable[[bytes, str], CircuitGraph]


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file. ``loses`` says what does not survive writing."""

    name: str
    suffix: str
    description: str
    loses: str
    write: Writer
    read: Reader | None = None


def _text(write: Callable[[CircuitGraph], str]) -> Writer:
    return lambda graph: write(graph).encode()


def _picture(form: str) -> Writer:
    return lambda graph: picture(graph, form)


def _read_json(data: bytes, source: str) -> CircuitGraph:
    """Our own JSON or MIB's: both are called .json, so the content decides."""
    document = read_json(data, source, allow_nan=True)
    return (mib if mib.is_mib(document) else schema).from_document(document, source)


_SEEN = "numbers beyond three digits, standard errors, metadata but for the legend"
_ALL = (
    Format(
        "json",
        ".json",
        "this project's own node-link JSON, which networkx also opens",
        "nothing",
        _text(schema.to_json),
        _read_json,
    ),
    Format(
        "graphml",
        ".graphml",
        "GraphML, for yEd, igraph and networkx",
        "nothing",
        _text(xml.to_graphml),
        xml.from_graphml,
    ),
    Format(
        "mib",
        ".mib.json",
        "JSON of EAP-IG and the MIB benchmark: every edge of the model, in the circuit or not",
        "nothing; refuses positions and neurons, and models of over 5 million edges",
        _text(mib.to_mib),
        mib.from_mib,
    ),
    Format("gexf", ".gexf", "GEXF, for Gephi", "metadata but for one line", _text(xml.to_gexf)),
    Format(
        "cytoscape",
        ".cyjs",
        "Cytoscape JSON, for Cytoscape and Cytoscape.js",
        "metadata but for one line",
        _text(to_cytoscape),
    ),
    Format(
        "csv",
        ".csv",
        "a table of the edges",
        "metadata, nodes without an edge or a score",
        _text(to_csv),
    ),
    Format(
        "neuronpedia",
        ".neuronpedia.json",
        "attribution-graph JSON for Neuronpedia's viewer",
        "ports (scores of q, k and v are summed), standard errors, the model's shape",
        _text(to_neuronpedia),
    ),
    Format(
        "html",
        ".html",
        "the interactive page, one file that needs no network",
        f"edges beyond the strongest {MOST_EDGES:,}",
        _text(to_html),
    ),
    Format("dot", ".dot", "the language of Graphviz", _SEEN, _picture("dot")),
    Format("svg", ".svg", "the picture, for the web and notebooks", _SEEN, _picture("svg")),
    Format("png", ".png", "the picture in pixels", _SEEN, _picture("png")),
    Format("pdf", ".pdf", "the picture, for papers", _SEEN, _picture("pdf")),
)

_FORMATS = {format.name: format for format in _ALL}
FORMATS: Mapping[str, Format] = MappingProxyType(_FORMATS)


def register(form: Format) -> Format:
    """Add a format of your own; it is then found by its name and its suffix.

    Raises:
        FormatError: its name or suffix is taken already, or its suffix does not begin with a dot.
    """
    if not form.suffix.startswith("."):
        raise FormatError(f"format '{form.name}': the suffix '{form.suffix}' begins with no dot")
    for other in _FORMATS.values():
        if other is not form and (form.name == other.name or form.suffix == other.suffix):
            raise FormatError(
                f"format '{other.name}' ({other.suffix}) exists already; give '{form.name}' "
                f"({form.suffix}) another name and suffix"
            )
    _FORMATS[form.name] = form
    return form


IN_A_RUN = "circuit.json"
"""The circuit's file in the folder of a run."""

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")
_PICKLED = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _pickle(path: str | Path) -> str:
    return (
        f"{path} is a pickle, as PyTorch writes them, and is never opened: that could run code. "
        f"Export the circuit as JSON where it was made (in EAP-IG graph.to_json('circuit.json')) "
        f"and read that"
    )


def find_format(path: str | Path, name: str | None = None) -> Format:
    """The named format, or the one whose suffix ``path`` ends with (the longest that fits).

    Raises:
        FormatError: no format of that name or suffix, or a folder.
    """
    if name is not None:
        if name not in FORMATS:
            raise FormatError(unknown("format", name, FORMATS))
        return FORMATS[name]
    fitting = [form for form in FORMATS.values() if Path(path).name.lower().endswith(form.suffix)]
    if not fitting:
        if path and Path(path).is_dir():
            raise FormatError(f"{path} is a folder; name a file in it, such as circuit.json")
        suffix = Path(path).suffix or Path(path).name
        message = unknown("suffix", suffix, {form.suffix for form in FORMATS.values()})
        raise FormatError(f"{message} (or name the format)")
    return max(fitting, key=lambda form: len(form.suffix))


def render(graph: CircuitGraph, name: str) -> bytes:
    """The circuit as the bytes of a file of the named format.

    Raises:
        FormatError: no such format.
    """
    return find_format("", name).write(graph)


def save(graph: CircuitGraph, path: str | Path, format: str | None = None) -> None:
    """Write the file that the suffix of ``path`` (or ``format``) asks for; replaces ``path``.

    Raises:
        FormatError: no such format, or a folder that cannot be written.
    """
    write_atomically(path, find_format(path, format).write(graph))


def load(path: str | Path, format: str | None = None) -> CircuitGraph:
    """Read a circuit, of a file or a run folder; the content says which JSON it is.

    Raises:
        FormatError: a format that is only written, or everything that is wrong with the file.
    """
    if format is None and Path(path).suffix.lower() in PICKLES:
        raise FormatError(_pickle(path))
    if (Path(path) / IN_A_RUN).is_file():
        path = Path(path) / IN_A_RUN
    form = find_format(path, format)
    data = read_bytes(path)
    if data.startswith(_PICKLED):
        raise FormatError(_pickle(path))
    if form.read is None:
        readable = ", ".join(sorted(name for name, other in FORMATS.items() if other.read))
        raise FormatError(f"{path}: {form.name} files are only written; read {readable} instead")
    return form.read(data, str(path))
