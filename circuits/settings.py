"""Methods and selectors as they are written: ``NAME`` or ``NAME:OPTION=VALUE+OPTION=VALUE``.

Several methods, separated by commas, stand for the mean of their scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from circuits.selectors import Selector
from circuits.selectors import get as get_selector
from patching.methods import get
from patching.written import parted, read_method, read_options
from tasks.errors import MethodError

Settings = dict[str, Any]


def read_methods(text: str) -> tuple[tuple[str, Settings], ...]:
    """Every method of a text with the options given to it.

    >>> read_methods("secant,ig:steps=3")
    (('secant', {}), ('ig', {'steps': 3}))

    Raises:
        MethodError: an unknown method or option, a value that cannot be read, or a method that is
            named twice with the same options.
    """
    methods = tuple(read_method(part) for part in _parts(text))
    for i, method in enumerate(methods):
        if method in methods[:i]:
            raise MethodError(f"'{text}' names {method[0]} twice; name every method once")
    return methods


def _parts(text: str) -> list[str]:
    """Methods separated by commas; after one, ``step=rule`` goes on with the rules before it."""
    parts: list[str] = []
    for piece in text.split(","):
        if parts and "=" in piece.partition(":")[0]:
            parts[-1] += f",{piece}"
        else:
            parts.append(piece.strip())
    return parts


def read_settings(method: str, settings: Sequence[str]) -> Settings:
    """Options of a method from ``NAME=VALUE`` texts, in the types the method gives them.

    Raises:
        MethodError: a text that is no ``NAME=VALUE``, an unknown option, a value of another type,
            or several methods, whose options are written behind their names.
    """
    if not settings:
        return {}
    if len(_parts(method)) > 1:
        raise MethodError(
            f"'{settings[0]}' could be meant for any of {method}; write options behind the method "
            f"they are for, as in secant,ig:steps=3"
        )
    name = method.partition(":")[0]
    return read_options(name, get(name).options, settings)


@dataclass(frozen=True, slots=True)
class Choice:
    """A selector with all of its options."""

    selector: Selector
    options: Mapping[str, Any]

    @classmethod
    def read(cls, text: str) -> Choice:
        """A choice as it is written, such as ``threshold:least=0.1+absolute=false``.

        Raises:
            MethodError: an unknown selector or option, or a value that it cannot have.
        """
        name, settings = parted(text)
        selector = get_selector(name)
        given = read_options(name, selector.options, settings)
        return cls(selector, selector.check(given))

    @property
    def name(self) -> str:
        """The text that :meth:`read` reads back, without options that are as by default."""
        changed = [
            f"{name}={str(value).lower() if isinstance(value, bool) else value}"
            for name, value in self.options.items()
            if value != self.selector.options[name].default
        ]
        return self.selector.name + (f":{'+'.join(changed)}" if changed else "")
