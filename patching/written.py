"""Options as they are written: ``NAME`` or ``NAME:OPTION=VALUE+OPTION=VALUE``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from patching.methods import Option, get
from tasks.errors import MethodError, unknown


def read_method(text: str) -> tuple[str, dict[str, Any]]:
    """One method and the options given to it.

    >>> read_method("ig:steps=3+on=activations")
    ('ig', {'steps': 3, 'on': 'activations'})

    Raises:
        MethodError: an unknown method or option, or a value that cannot be read.
    """
    if not isinstance(text, str):
        raise MethodError(f"a method is named by a text such as 'ig:steps=3', given {text!r}")
    name, settings = parted(text)
    return name, read_options(name, get(name).options, settings)


def parted(text: str) -> tuple[str, list[str]]:
    """The name, and what is set behind it."""
    name, _, settings = text.partition(":")
    return name, settings.split("+") if settings else []


def read_options(name: str, table: Mapping[str, Option], settings: Sequence[str]) -> dict[str, Any]:
    """Values from ``OPTION=VALUE`` texts, in the types that the table of options gives them.

    Raises:
        MethodError: a text that is no such setting, an unknown option, a value of another type.
    """
    values: dict[str, Any] = {}
    for text in settings:
        option, equals, value = text.partition("=")
        if not equals:
            raise MethodError(f"'{text}' is not a setting; write NAME=VALUE")
        if option not in table:
            raise MethodError(unknown(f"option of {name}", option, table or ["none"]))
        if option in values:
            raise MethodError(f"option {option} of {name} is set twice: leave one out")
        values[option] = _read_value(option, value, table[option].type)
    return values


def _read_value(name: str, text: str, kind: type) -> Any:
    words = {"true": True, "false": False}
    try:
        return words[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise MethodError(f"option {name} is {kind.__name__}, not '{text}'") from None
