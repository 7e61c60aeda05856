"""How much a command says, and how: quietly, at length, or as JSON for other programs."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Annotated, Any

import typer

from patching.processes import leads

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
    """For the length of a command: no progress, or all steps and what the library logs.

    Of several processes that carry it out the first speaks, and the others are silent.
    """
    if not leads():
        with _silent():
            yield
        return
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


@contextmanager
def _silent() -> Iterator[None]:
    """Neither results, nor progress, nor warnings; errors go on."""
    token, logger = _QUIET.set(True), logging.getLogger("circuits")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            yield
    finally:
        _QUIET.reset(token)
        logger.setLevel(level)


def print_json(value: Any) -> None:
    """Plain values as one JSON document; numbers that JSON lacks are null."""
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False, default=str)
    typer.echo(text)
