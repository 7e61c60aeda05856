"""Reading files without trust, and the JSON that is written."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from tasks.errors import FormatError
from tasks.json_text import parse_json, too_deep
from tasks.limits import MAX_CIRCUIT, MAX_PARTS

_TOML_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+"""|"(?:[^"\\\n]|\\.)*+"'
    r"|'''(?:[^']|'(?!''))*+'''|'[^'\n]*+'|#[^\n]*+",
    re.DOTALL,
)
_LONG_KEY = re.compile(rf'(?:[\w"-]++[ \t]*+\.[ \t]*+){{{MAX_PARTS}}}')

FEWER = "save it again with fewer edges (graph.top)"


def read_bytes(path: str | Path, max_bytes: int = MAX_CIRCUIT, way: str = FEWER) -> bytes:
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
            f"{path} is larger than {max_bytes:,} bytes, the most that is read; {way}"
        )
    return data


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


def read_toml(data: bytes, source: str) -> dict[str, Any]:
    """The value of TOML text in UTF-8, whose keys and values are not nested without end.

    Raises:
        FormatError: not TOML, or nested too deeply.
    """
    try:
        text = data.decode("utf-8")
        plain = _TOML_STRING.sub('""', text)
        # The parser's time grows with the square of the parts of one key.
        if _LONG_KEY.search(plain) or too_deep(plain):
            raise ValueError(f"nested too deeply: keys have at most {MAX_PARTS} parts")
        return tomllib.loads(text)
    except RecursionError:
        raise FormatError(f"{source} is not valid TOML: nested too deeply") from None
    except ValueError as error:
        raise FormatError(f"{source} is not valid TOML: {error}") from None


def write_json(value: Any) -> str:
    """Canonical JSON: sorted keys, shortest floats that read back equal, newline at the end.

    Raises:
        FormatError: a number that is not finite, such as a sum that has overflowed.
    """
    try:
        return json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"
    except ValueError as error:
        raise FormatError(f"cannot write this as JSON: {error}") from None
