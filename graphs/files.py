"""Reading files without trust and writing them without leaving halves behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tasks.errors import FormatError
from tasks.json_text import parse_json

MAX_BYTES = 256 * 1024 * 1024


def read_bytes(path: str | Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a file.

    Raises:
        FormatError: no such file, a folder, or more than ``max_bytes``.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > max_bytes:
        raise FormatError(
            f"{path} is larger than {max_bytes:,} bytes; save it again with fewer edges (graph.top)"
        )
    return data


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write under a temporary name and rename, so that ``path`` is whole or as it was before.

    Raises:
        FormatError: the folder does not exist or cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        raise FormatError(f"cannot write {path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def read_json(data: bytes, source: str, allow_nan: bool = False) -> Any:
    """The value of JSON text in UTF-8; stricter than :mod:`json`.

    Raises:
        FormatError: not JSON, cut short, nested too deeply, with NaN or infinity (unless
            ``allow_nan``), or with a key that appears twice in one object.
    """

    try:
        return parse_json(data.decode("utf-8"), allow_nan)
    except ValueError as error:
        raise FormatError(f"{source} is not valid JSON: {error}") from None


def write_json(value: Any) -> str:
    """Canonical JSON: sorted keys, shortest floats that read back equal, newline at the end.

    Raises:
        FormatError: a number that is not finite, such as a sum that has overflowed.
    """
    try:
        return json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"
    except ValueError as error:
        raise FormatError(f"cannot write this as JSON: {error}") from None
