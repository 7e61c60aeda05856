"""Mutated files for every reader of text: bytes flipped, cut, doubled, and replaced by odd ones.

`python -m tests.fuzz_readers 100000 0 FOLDER` mutates the files in the folder, that many times with
that seed, and prints what came of them. A fault is any exception that is not the project's own, any
file that takes over 5 seconds of computing, and memory over 1 GB.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from circuits.studies.emotion.prompts import read_concept
from graphs import CircuitGraph
from tasks.errors import CircuitsError
from tasks.files import check_lines, read_file
from tasks.mcq_files import read_question_file
from tests.tasks.conftest import WordTokenizer

SECONDS, MEGABYTES = 5.0, 1000
ODD = (
    *(b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"\r\n", b"\t", b";", b","),
    *(b'"', b'""', b"'", b"\\", b"\\ud83d", b"\\u0000", b"[", b"]", b"{", b"}", b"[[[[[[[[[["),
    *(b"null", b"true", b"NaN", b"-1", b"1e999", b"9" * 5000, b"1" * 25, b"-0.0", b"[]", b"{}"),
    *(b'"clean"', b'"question"', b'"messages": [], ', b'"a": 1, "a": 2, ', b"<", b">", b"&#0;"),
    *(b"correct_idx", b"PAR1", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b"(" * 300, b"[" * 3000),
)

Read = Callable[[Path], Any]


def readers() -> dict[str, Read]:
    """Everything that reads text that others wrote, by name."""
    return {
        "pairs": lambda path: read_file(path, WordTokenizer(), skip_bad=False),
        "pairs, bad rows skipped": lambda path: read_file(path, WordTokenizer(), skip_bad=True),
        "pairs, no tokenizer": lambda path: read_file(path, None),
        "lines": check_lines,
        "questions": lambda path: read_question_file(path, skip_bad=False),
        "questions, bad rows skipped": lambda path: read_question_file(path, skip_bad=True),
        "concept": read_concept,
        "circuit": lambda path: CircuitGraph.load(path, "json"),
        "graphml": lambda path: CircuitGraph.load(path, "graphml"),
    }


def mutated(data: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """The bytes with one to four changes."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at, end = sorted(rng.integers(0, len(found) + 1, size=2).tolist())
        kind = rng.integers(7)
        if kind == 0 and found:
            found[min(at, len(found) - 1)] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            found[at:at] = ODD[rng.integers(len(ODD))]
        elif kind == 2:
            found[at : min(end, at + 12)] = ODD[rng.integers(len(ODD))]
        elif kind == 3:
            del found[at : min(end, at + 40)]
        elif kind == 4:
            found[at:at] = found[at : min(end, at + 2000)]
        elif kind == 5 and rng.integers(6) == 0:
            del found[at:]
        elif kind == 6 and rng.integers(4) == 0:
            other = others[rng.integers(len(others))]
            found[at:at] = other[: int(rng.integers(1, 400))]
    return bytes(found)


def attacks(seeds: Mapping[str, bytes], n: int, seed: int = 0) -> Iterator[tuple[str, str, bytes]]:
    """`n` mutated files: of which seed, for which reader, and the bytes."""
    rng = np.random.default_rng(seed)
    names, kinds, texts = list(seeds), list(readers()), list(seeds.values())
    for i in range(n):
        name = names[rng.integers(len(names))]
        yield name, kinds[i % len(kinds)], mutated(seeds[name], texts, rng)


def outcome(read: Read, path: Path) -> str:
    """`read`, `refused`, or the traceback of what is neither."""
    try:
        read(path)
    except CircuitsError:
        return "refused"
    except Exception:
        return traceback.format_exc()
    return "read"


def main(n: int, seed: int, *folders: str) -> int:
    """Read `n` mutated files and print what came of them."""
    files = [file for folder in folders for file in Path(folder).rglob("*") if file.is_file()]
    seeds = {str(file): file.read_bytes()[:20_000] for file in files}
    kinds, counts, faults, slowest = readers(), Counter[str](), Counter[str](), 0.0
    for name in ("pandas", "pyarrow.parquet"):
        with suppress(ImportError):
            import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        for name, kind, data in attacks(seeds, n, seed):
            path = Path(folder) / "file"
            path.write_bytes(data)
            start = time.process_time()
            came = outcome(kinds[kind], path)
            took = time.process_time() - start
            slowest = max(slowest, took)
            if came in ("read", "refused") and took < SECONDS:
                counts[came] += 1
                continue
            faults[came.strip().splitlines()[-1][:160]] += 1
            if sum(faults.values()) <= 5:
                _say(f"{name} for {kind}, {took:.1f} s: {data!r}\n{came}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    _say(f"{n} files: {dict(counts)}, slowest {slowest:.2f} s, at most {memory:.0f} MB")
    _say(f"faults: {dict(faults)}")
    return 1 if faults or memory > MEGABYTES else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
