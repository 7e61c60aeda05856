"""How much a command says, and how: quietly, at length, or as JSON for other programs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]

_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
_VERBOSE: ContextVar[bool] = ContextVar("verbose", default=False)


def quiet() -> bool:
    """Whether progress is not to be shown."""
    return _QUIET.get()


def verbose() -> bool:
    """Whether every step is to be named as it begins."""
    return _VERBOSE.get()


@contextmanager
def saying(quietly: bool, at_length: bool) -> Iterator[None]:
    """For the length of a command: no progress, or all steps and what the library logs."""
    tokens = _QUIET.set(quietly), _VERBOSE.set(at_length)
    logger, handler = logging.getLogger("circuits"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("circuits: %(message)s"))
    level = logger.level
    if at_length:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        _QUIET.reset(tokens[0])
        _VERBOSE.reset(tokens[1])
        logger.removeHandler(handler)
        logger.setLevel(level)


def print_json(value: Any) -> None:
    """Plain values as one JSON document; numbers that JSON lacks are null."""
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False, default=str)
    typer.echo(text)
