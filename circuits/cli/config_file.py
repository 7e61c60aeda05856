"""`--config`: the options of a command from a TOML file, or from the `run.json` of another run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from tasks.errors import FormatError, unknown


def _use(context: typer.Context, path: Path | None) -> Path | None:
    """What the file says becomes the default of every option."""
    if path is not None:
        context.default_map = {**(context.default_map or {}), **dict(defaults(path))}
    return path


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_use,
        is_eager=True,
        help="A TOML file of these options, or the run.json of a run. Options given here win.",
    ),
]


def defaults(path: Path) -> Iterator[tuple[str, Any]]:
    """Name and value of every parameter of `discover` that the file sets.

    Raises:
        FormatError: the file cannot be read, or has fields that a run does not have.
    """
    from circuits.config import Config

    given = _read(path)
    known = [field.name for field in fields(Config)]
    if odd := sorted(set(given) - set(known)):
        raise FormatError(f"{path}: {unknown('field', odd[0], known)}")
    for name, value in given.items():
        if value is not None:
            yield from _parameters(name, value)


def _read(path: Path) -> Mapping[str, Any]:
    from graphs.files import read_bytes, read_json, read_toml
    from tasks.limits import MAX_PLAN, MAX_TOML

    if path.suffix == ".toml":
        return read_toml(read_bytes(path, MAX_TOML, "name fewer options"), str(path))
    if path.suffix != ".json":
        raise FormatError(f"options are read from .toml or from a run.json, not from '{path}'")
    record = read_json(read_bytes(path, MAX_PLAN, "give a smaller file"), str(path))
    config = record.get("config") if isinstance(record, dict) else None
    if not isinstance(config, dict):
        raise FormatError(f"{path} is no run.json: it has no 'config'")
    return config


def _parameters(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A field of a run's configuration as parameters of the command."""
    if name == "bos":
        yield "bos", "yes" if value else "no"
    elif name == "chat":
        yield "chat", value == "template"
        yield "chat_plain", value == "plain"
    elif name == "options":
        yield "setting", [f"{key}={_text(each)}" for key, each in dict(value).items()]
    elif name == "asked":
        columns = ("prompt", "corrupted", "answer", "counterfactual")
        if value:
            yield from zip(columns, map(list, zip(*value, strict=True)), strict=True)
    else:
        yield name, value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
