"""Names of a package that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

Homes = Mapping[str, tuple[str, str]]


def lazily(package: str, homes: Homes) -> Callable[[str], Any]:
    """A package's ``__getattr__``: name -> what the module of its home calls by the other name."""

    def found(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, original = homes[name]
        return getattr(import_module(module), original)

    return found
