"""Rows of a file, whatever it is written in: JSON lines, one JSON document, a table, Parquet.

What a file is written in is told by its content, never by its name.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tasks.errors import TaskError
from tasks.json_text import parse_json
from tasks.limits import MAX_BYTES, MAX_CELLS, MAX_ROWS
from tasks.row import shorten

LISTS = ("prompts", "data", "pairs", "rows", "examples", "questions")
"""Keys under which one JSON object may hold all rows."""

DELIMITERS = "\t,;"
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_KNOWN = {
    b"PK\x03\x04": "a zip archive or a spreadsheet; save it as CSV",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"\x80\x02": "a pickle, which is never opened; save it as JSON lines",
    b"\x80\x04": "a pickle, which is never opened; save it as JSON lines",
    b"\x80\x05": "a pickle, which is never opened; save it as JSON lines",
    b"ARROW1": "an Arrow file; save it as Parquet, CSV or JSON lines",
    b"%PDF": "a PDF",
}
PARQUET = b"PAR1"


@dataclass(frozen=True, slots=True)
class Record:
    """One row: where it stands, its values by name (none where it cannot be read), its faults."""

    where: str
    values: Mapping[str, Any]
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of a file. `shape` says what it is written in; `header` is a table's first row.

    A table whose header is no header is read with :meth:`bare`.
    """

    shape: str
    records: tuple[Record, ...]
    header: tuple[str, ...] = ()

    def bare(self, names: Sequence[str]) -> tuple[Record, ...]:
        """The rows of a table without a header, its first row included, under these names."""
        first = Record("line 1", *_row(self.header, names))
        others = (
            Record(row.where, *_row(row.values[_CELLS], names)) if not row.faults else row
            for row in self.records
        )
        return (first, *others)

    def headed(self) -> tuple[Record, ...]:
        """The rows of a table under the names in its header; other rows as they are."""
        if not self.header:
            return self.records
        return tuple(
            Record(row.where, *_row(row.values[_CELLS], self.header)) if not row.faults else row
            for row in self.records
        )

    def twice(self) -> str:
        """A name that the header gives to two columns; empty where there is none."""
        counts = Counter(name.strip() for name in self.header)
        return next((name for name, count in counts.items() if name and count > 1), "")


_CELLS = "cells"


def read_rows_of(path: str | Path) -> Rows:
    """The rows of a file of JSON lines, a JSON document, a table or Parquet.

    Raises:
        TaskError: there is no such file, it is too large, it is none of these, or it is empty.
    """
    path = Path(path)
    data = read_bytes(path)
    if data.startswith(PARQUET):
        rows = _parquet(path)
    else:
        text = decoded(path, data)
        _check_size(path, text)
        rows = _json(path, text) if text.lstrip()[:1] in ("{", "[") else _table(path, text)
    if not rows.records and not rows.header:
        raise TaskError(f"{path} is empty; give one JSON object per line, or a table with a header")
    return rows


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        TaskError: there is no such file, it cannot be read, or it is too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise TaskError(f"there is no file '{path}'") from None
    except (OSError, ValueError) as cause:
        raise TaskError(
            f"{path} cannot be read: {getattr(cause, 'strerror', None) or cause}"
        ) from None
    if len(data) > MAX_BYTES:
        raise TaskError(f"{path} is larger than {MAX_BYTES:,} bytes; give fewer rows")
    return data


def decoded(path: Path, data: bytes) -> str:
    """Text in UTF-8, or in what its byte-order mark says.

    Raises:
        TaskError: it is no text, with what it looks like where that is known.
    """
    for start, what in _KNOWN.items():
        if data.startswith(start):
            raise TaskError(f"{path} is not a text file: it looks like {what}")
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as cause:
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise TaskError(f"{path} is not a text file: byte {cause.start} is not {name}") from None


def _check_size(path: Path, text: str) -> None:
    lines = text.count("\n") + text.count("\r") - text.count("\r\n")
    cells = sum(map(text.count, "[{,\t;"))
    for count, most, what in ((lines, MAX_ROWS, "lines"), (cells, MAX_CELLS, "values")):
        if count > most:
            raise TaskError(f"{path} holds {count:,} {what}, at most {most:,} are read")


def _json(path: Path, text: str) -> Rows:
    """JSON lines, unless the text as a whole is one document of more than one line."""
    lines = [(i, line) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]
    number, first = lines[0]
    alone = len(lines) > 1 and first.strip() in ("{", "[")
    if len(lines) == 1 or alone or not _parses(first):
        try:
            return Rows("JSON", tuple(_entries(path, number, _parsed(text))))
        except ValueError as cause:
            if alone:
                raise TaskError(f"{path} is not JSON ({cause})") from None
    return Rows("JSON lines", tuple(_line(number, line) for number, line in lines))


def _parsed(text: str) -> Any:
    # Half a surrogate pair is a fault of the value that has it, where that is in use.
    return parse_json(text, allow_nan=True, allow_halves=True)


def _parses(line: str) -> bool:
    try:
        _parsed(line)
    except ValueError:
        return False
    return True


def _entries(path: Path, line: int, value: Any) -> Iterator[Record]:
    """The rows of a document: a list of objects, such a list under a known key, or one object."""
    if isinstance(value, dict):
        under = [value[key] for key in LISTS if isinstance(value.get(key), list)]
        if not under:
            yield Record(f"line {line}", value)
            return
        value = under[0]
    if not value:
        raise TaskError(f"{path} holds an empty list")
    if len(value) > MAX_ROWS:
        raise TaskError(f"{path} holds {len(value):,} entries, at most {MAX_ROWS:,} are read")
    for number, entry in enumerate(value, start=1):
        where = f"entry {number}"
        if isinstance(entry, dict):
            yield Record(where, entry)
        else:
            yield Record(where, {}, (f"not a JSON object: {shorten(str(entry))}",))


def _line(number: int, text: str) -> Record:
    where = f"line {number}"
    try:
        value = _parsed(text)
    except ValueError as cause:
        return Record(where, {}, (f"not JSON ({cause}): {shorten(text.strip())}",))
    if not isinstance(value, dict):
        return Record(where, {}, (f"not a JSON object: {shorten(text.strip())}",))
    return Record(where, value)


def _table(path: Path, text: str) -> Rows:
    """A table whose first row is its header; cells of the other rows are named later."""
    first = text.lstrip("\ufeff\r\n ").split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=lambda mark: len(_split(first, mark)))
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header: tuple[str, ...] = ()
    records = []
    for where, cells in _numbered(path, rows):
        if not header:
            header = tuple(cells)
        else:
            records.append(Record(where, {_CELLS: cells}))
    return Rows("a table", tuple(records), header)


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


def _numbered(path: Path, rows: Any) -> Iterator[tuple[str, list[str]]]:
    """The rows that are not blank, with the line each begins on."""
    start = 1
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as cause:
            raise TaskError(
                f"{path} cannot be read as a table: line {start}: {cause}; a quote may be open"
            ) from None
        if any(cell.strip() for cell in cells):
            yield f"line {start}", cells
        start = rows.line_num + 1


def _row(cells: Sequence[str], names: Sequence[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The cells by name, and the fault of a row that is too short or too long."""
    if len(cells) != len(names):
        return {}, (f"{len(cells)} columns, where {len(names)} are wanted",)
    return {name.strip(): cell for name, cell in zip(names, cells, strict=True)}, ()


def _parquet(path: Path) -> Rows:
    try:
        import pandas as pd

        read_metadata = import_module("pyarrow.parquet").read_metadata
    except ImportError:
        raise TaskError(
            f"{path} is a Parquet file, which needs pandas and pyarrow; install them, or save it "
            f"as JSON lines: frame.to_json(path, orient='records', lines=True)"
        ) from None
    try:
        about = read_metadata(path)
        size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        if about.num_rows > MAX_ROWS or size > MAX_BYTES:
            raise TaskError(
                f"{path} holds {about.num_rows:,} rows in {size:,} bytes; at most {MAX_ROWS:,} in "
                f"{MAX_BYTES:,} are read"
            )
        table = pd.read_parquet(path).to_dict("records")
    except TaskError:
        raise
    except Exception as cause:
        # pyarrow meets a broken file in whatever part reads it first, each with its own error.
        raise TaskError(f"{path} is not a Parquet file that can be read: {cause}") from None
    rows = (Record(f"row {i}", _plain(row)) for i, row in enumerate(table, start=1))
    return Rows("Parquet", tuple(rows))


def _plain(value: Any) -> Any:
    """Arrays of numpy as lists, in nested values too."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
