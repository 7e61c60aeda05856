"""The families of models that circuits can take apart, each taught in a module of its name.

A module's ``FAMILIES`` maps model types, as transformers calls them, to functions from a model's
configuration to its :class:`~patching.families.description.Family`. A new family is one more
module here and one row of the table in tests/families.py.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from patching.families.description import Family

MODULES = (
    *("gpt2", "gpt_neo", "gpt_j", "gpt_neox", "opt", "bloom", "mpt", "falcon", "llama", "gemma"),
    *("qwen", "phi", "olmo", "granite", "smollm", "glm", "cohere", "stablelm", "starcoder"),
    *("exaone", "ernie", "hunyuan", "nemotron", "persimmon", "apertus", "arcee", "ministral3"),
    *("mixtral", "gpt_oss"),
)
"""Modules of this package that teach a family."""


def known() -> dict[str, Callable[[Any], Family]]:
    """Every model type that is known, with the function that describes its models."""
    table: dict[str, Callable[[Any], Family]] = {}
    for name in MODULES:
        table |= import_module(f"patching.families.{name}").FAMILIES
    return table
