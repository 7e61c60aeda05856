"""Headers of safetensors files, read before anything else of them; nothing in them is believed.

A file is the length of a JSON header (8 bytes), the header, and the data that it describes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.errors import FormatError
from tasks.json_text import parse_json
from tasks.limits import MAX_HEADER
from tasks.row import shorten

AGAIN = "fetch it again (an interrupted download?)"


class TensorFileError(Exception):
    """What is wrong with a file; its reader says of which, in an error of its own kind."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a header says of one tensor: its number type as safetensors calls it, and its shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """The tensors of a file by name, and the texts that were put beside them."""

    tensors: dict[str, Described]
    texts: dict[str, Any]


def read_header(path: Path, most: int = MAX_HEADER) -> Header:
    """The header of a safetensors file, all of whose data are there.

    Raises:
        TensorFileError: it cannot be read, is none, or is not complete.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if length > size - 8:
                raise TensorFileError(f"is incomplete: it ends within its header; {AGAIN}")
            if length > most:
                raise TensorFileError(f"has a header of {length:,} bytes, more than {most:,}")
            header = parse_json(file.read(length).decode(), allow_halves=True)
    except OSError as error:
        raise TensorFileError(f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise TensorFileError(f"is no safetensors file: {str(error)[:200]}") from None
    texts = header.pop("__metadata__", {}) if isinstance(header, dict) else {}
    tensors, ends = _described(header)
    complete = 8 + length + max(ends, default=0)
    if size < complete:
        raise TensorFileError(f"is incomplete: {size:,} of {complete:,} bytes are there; {AGAIN}")
    if size > complete:
        raise TensorFileError(f"is {size - complete:,} bytes longer than its header says; {AGAIN}")
    return Header(tensors, texts if isinstance(texts, dict) else {})


def _described(header: Any) -> tuple[dict[str, Described], list[int]]:
    """Every tensor, and the ends of their data."""
    try:
        tensors = {
            name: Described(str(row["dtype"]), tuple(row["shape"])) for name, row in header.items()
        }
        ends = [row["data_offsets"][1] for row in header.values()]
    except (AttributeError, LookupError, TypeError):
        raise TensorFileError(f"is broken: its header describes no tensors; {AGAIN}") from None
    sizes = [number for tensor in tensors.values() for number in tensor.shape]
    if not all(isinstance(number, int) and 0 <= number < 1 << 63 for number in (*sizes, *ends)):
        raise TensorFileError(f"is broken: its header holds sizes that cannot be; {AGAIN}")
    return tensors, ends


def read_described(
    path: Path, field: str, what: str, version: int
) -> tuple[dict[str, Any], Header]:
    """The JSON object under a name in a header, with the header; no tensor is read.

    Raises:
        FormatError: the file is none of ``what`` (such as "a scores file"), or of another schema
            version than ``version``.
    """
    try:
        header = read_header(path)
        if not isinstance(text := header.texts.get(field), str):
            raise TensorFileError(f"says nothing under '{field}'")
        about = parse_json(text, allow_nan=True)
        if not isinstance(about, dict):
            raise TensorFileError(f"holds no object under '{field}'")
    except (TensorFileError, ValueError) as fault:
        raise FormatError(f"{path} is not {what}: it {fault}") from None
    if (given := about.pop("schema_version", None)) != version:
        raise FormatError(
            f"{path} has {field} schema version {given!r}; this program reads "
            f"{version}; use the version of circuits that wrote it"
        )
    return about, header


def read_tensors(path: Path, framework: Literal["numpy", "pt"], what: str) -> dict[str, Any]:
    """All tensors of a file whose header has been found to be right.

    Raises:
        FormatError: they cannot be read all the same.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework=framework) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{path} is not {what}: {error}") from None


def type_faults(about: dict[str, Any], kinds: Iterable[tuple[str, Any]]) -> list[str]:
    """Fields of a header that are missing, or of another type than they must have."""
    faults = []
    for name, kind in kinds:
        if name not in about:
            faults.append(f"it has no {name}")
        elif not isinstance(value := about[name], kind) or _odd(value):
            faults.append(f"its {name} is {shorten(repr(value))}")
    return faults


def _odd(value: Any) -> bool:
    """Whether a number is one that no computer counts to, or is a truth value."""
    return isinstance(value, bool) or (isinstance(value, int) and abs(value) >= 1 << 53)
