"""Reading files without trust and writing them without leaving halves behind."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from tasks.errors import FormatError

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

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a number JSON allows")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            name, count = Counter(name for name, _ in pairs).most_common(1)[0]
            raise ValueError(f"key {name!r} appears {count} times in one object")
        return found

    constants = None if allow_nan else refuse
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=unique, parse_constant=constants)
        if "\\ud" in text.lower():
            # Half of a surrogate pair can be escaped in JSON, but is no text that can be written.
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise FormatError(f"{source} is not valid JSON: {reason}") from None


def write_json(value: Any) -> str:
    """Canonical JSON: sorted keys, shortest floats that read back equal, newline at the end.

    Raises:
        FormatError: a number that is not finite, such as a sum that has overflowed.
    """
    try:
        return json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"
    except ValueError as error:
        raise FormatError(f"cannot write this as JSON: {error}") from None
