"""JSON from others: stricter than :mod:`json`, and never deeper than can be worked with."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, NoReturn

from tasks.limits import MAX_DEPTH, MAX_VALUES

_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_OTHER = re.compile(r"[^\[\]{}]+")
_DEEP = re.compile(rf"[\[{{]{{{MAX_DEPTH + 1}}}")


def parse_json(text: str, allow_nan: bool = False, allow_halves: bool = False) -> Any:
    """The value of JSON text.

    Raises:
        ValueError: not JSON, cut short, nested too deeply, with NaN or infinity (unless
            ``allow_nan``), with a key twice in one object, or (unless ``allow_halves``) with half
            a surrogate pair, which is no text that can be written.
    """
    brackets = text.count("[") + text.count("{")
    if (count := brackets + text.count(",")) > MAX_VALUES:
        raise ValueError(f"it holds about {count:,} values; at most {MAX_VALUES:,} are read")
    if brackets > MAX_DEPTH and too_deep(_STRING.sub("", text)):
        raise ValueError(f"nested too deeply: at most {MAX_DEPTH} lists and objects in one another")
    constants = None if allow_nan else _refuse
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=constants)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not allow_halves and "\\ud" in text.lower() and (half := half_surrogate(value)):
        raise ValueError(f"half a surrogate pair ({half}), which is no text")
    return value


def half_surrogate(value: Any) -> str:
    """The first half of a surrogate pair in a text or in nested values; empty where none is."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError as fault:
        return f"\\u{ord(fault.object[fault.start]):04x}"
    return ""


def too_deep(text: str) -> bool:
    """Whether brackets stand more than `MAX_DEPTH` deep in a text without strings.

    Pairs without anything inside are taken away, again and again: as often as there are levels.
    """
    brackets = _OTHER.sub("", text)
    for _ in range(MAX_DEPTH):
        if not brackets or _DEEP.search(brackets):
            break
        brackets = brackets.replace("[]", "").replace("{}", "")
    # What is unbalanced is left as well, and is for the parser to refuse.
    return bool(brackets) and bool(_DEEP.search(brackets) or _balanced(brackets))


def _balanced(brackets: str) -> bool:
    return brackets.count("[") == brackets.count("]") and brackets.count("{") == brackets.count("}")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number JSON allows")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        name, count = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"key {name!r} appears {count} times in one object")
    return members
