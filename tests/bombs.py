"""Small files with large bills: what each costs its reader to refuse, in seconds and megabytes.

python -m tests.bombs FOLDER
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from circuits.edits.plan import read_plan
from circuits.folder import EVALUATION, read_held_out
from circuits.results.record import read_record
from circuits.studies.emotion.prompts import read_concept
from graphs import CircuitGraph
from graphs.formats import render
from patching.scores import Scores
from patching.sources.header import read_header
from tasks.errors import CircuitsError
from tasks.files import read_file
from tests.graphs.strategies import circuit

MB = 1 << 20
Read = Callable[[Path], Any]
READERS: dict[str, Read] = {
    "circuit": lambda path: CircuitGraph.load(path, "json"),
    "graphml": lambda path: CircuitGraph.load(path, "graphml"),
    "plan.json": read_plan,
    "plan.toml": read_plan,
    "scores": Scores.load,
    "run.json": read_record,
    EVALUATION: lambda path: read_held_out(path.parent),
    "concept": read_concept,
    "pairs": lambda path: read_file(path, None),
    "gguf": read_header,
}
JSON = ("circuit", "plan.json", "run.json", EVALUATION, "concept", "pairs")


def bombs() -> Iterator[tuple[str, str, bytes]]:
    """For which reader, what it is, and the bytes."""
    for reader in JSON:
        yield reader, "brackets that open", b"[" * 20 * MB
        yield reader, "empty lists", b"[" + b"[]," * (5 * MB) + b"[]]"
        yield reader, "numbers", b"[" + b"0.5," * (6 * MB) + b"0]"
    yield "circuit", "a comb", b"[" + b"[]," * 2_000_000 + b"[" * 99 + b"]" * 99 + b"]"
    yield "circuit", "60 MB of brackets", b"[" * 60 * MB
    yield "circuit", "too large", b" " * 300 * MB
    yield "circuit", "3,000 layers of 100 heads", claiming(3000, 100)
    yield "circuit", "a million heads", claiming(1, 10**6)
    yield "graphml", "entities", GRAPHML
    yield "plan.toml", "one dotted key", b"a." * 50_000 + b"a = 1"
    yield "plan.toml", "a dotted table", b"[" + b"a." * 50_000 + b"a]\n"
    yield "plan.toml", "dotted keys", b"".join(dotted(i) for i in range(18_000))
    yield "plan.toml", "tables", b"".join(b"[[edits]]\nk%d=1\n" % i for i in range(50_000))
    yield "plan.toml", "lists", b"a = " + b"[" * MB
    yield "scores", "a header as long as the file", struct.pack("<Q", 70 * MB) + b" " * 70 * MB
    yield "scores", "a header that never ends", struct.pack("<Q", 2**62) + b"{}"
    yield "scores", "values in a header", packed(b"[" + b"0," * (20 * MB) + b"0]")
    yield "scores", "names without scores", names(1_000_000)
    yield "gguf", "counts without end", b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60) + bytes(MB)
    yield "gguf", "many facts", b"GGUF" + struct.pack("<IQQ", 3, 1, 10_000) + bytes(60 * MB)
    words = struct.pack("<QIIQ", 0, 9, 8, 7_000_000)
    yield "gguf", "many words", b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + words + bytes(60 * MB)


GRAPHML = (
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(
        b'<!ENTITY b%d "%s">' % (i, b"&a;" * 10 if not i else b"&b%d;" % (i - 1) * 10)
        for i in range(9)
    )
    + b"]><graphml>&b8;</graphml>"
)


def claiming(layers: int, heads: int) -> bytes:
    """A circuit of two edges that says its model has so many layers and heads."""
    graph = circuit(("input->a0.h1<q>", 0.5), ("a0.h1->logits", -2.0))
    value = json.loads(render(graph, "json"))
    value["graph"]["anatomy"] |= {"n_layers": layers, "n_heads": heads, "n_kv_heads": heads}
    return json.dumps(value).encode()


def dotted(number: int) -> bytes:
    """A line of TOML whose key has 20 parts, of which one is its own."""
    return b"a." * 19 + b"k%d = 1\n" % number


def packed(header: bytes) -> bytes:
    """A safetensors file of a header alone."""
    return struct.pack("<Q", len(header)) + header


def names(count: int) -> bytes:
    """A file of scores that names more than it has numbers for."""
    told = json.dumps({"schema_version": 1, "names": [f"m{i}" for i in range(count)]})
    array = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}
    header = json.dumps({"__metadata__": {"scores": told}, "totals": array})
    return packed(header.encode()) + bytes(8)


def main(folder: Path) -> None:
    """Print a line for every file: seconds, megabytes more than ever before, and what came."""
    for reader, what, data in bombs():
        path = folder / reader
        path.write_bytes(data)
        del data
        before, start = _megabytes(), time.process_time()
        try:
            READERS[reader](path)
            came = "read"
        except CircuitsError:
            came = "refused"
        seconds = time.process_time() - start
        more = _megabytes() - before
        sys.stdout.write(f"{seconds:.2f}\t{more:.0f}\t{came}\t{reader}: {what}\n")
        sys.stdout.flush()
        path.unlink()


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]))
