"""The run folder: complete or absent, never half-written, and never somebody else's.

    run.json             what was done and what came out (circuits.record)
    scores.safetensors   every score, from which other circuits can be chosen
    circuit.json         the circuit
    circuit.svg          its picture
    circuit.html         its page, with the prompts and the faithfulness of its strongest edges

An All-for-One search adds files of its own (circuits.allforone.run), and so does an evaluation on
held-out prompts: evaluation.json and curves.svg (circuits.evaluation.run).

A run is written under a temporary name beside its folder, `.NAME.HOST.PID.partial`, and renamed
once it is complete. What a killed process left behind is cleared away by the next run.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.config import Config
from circuits.record import KIND, RECORD, RunRecord, read_record
from tasks.errors import FormatError, RunError

if TYPE_CHECKING:
    from graphs import CircuitGraph
    from patching.scores import Scores

SCORES, CIRCUIT = "scores.safetensors", "circuit.json"
PICTURE, PAGE = "circuit.svg", "circuit.html"
FILES = (RECORD, SCORES, CIRCUIT, PICTURE, PAGE)
EVALUATION, CURVES = "evaluation.json", "curves.svg"
OF_A_SEARCH = ("af1.json", "af1.txt", "grid.svg", "means.safetensors")


def finished(folder: Path, config: Config, force: bool = False) -> RunRecord | None:
    """The record of the run that `folder` holds already; None where the run is still to be done.

    Raises:
        RunError: the folder holds something else, which only `force` may replace, and only if it
            is a run; or nothing can be written there.
    """
    make_ready(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    _check_ours(folder)
    if force:
        return None
    record = _record(folder)
    if record is None or record.config_sha256 != config.digest():
        raise RunError(
            f"{folder} holds another run ({_difference(record, config)}); "
            f"choose another --out, or replace it with --force"
        )
    complete = all((folder / name).is_file() for name in FILES)
    return record if complete else None


def write(folder: Path, record: RunRecord, scores: Scores, graph: CircuitGraph, page: str) -> None:
    """Write a finished run; either all of it is there afterwards, or nothing has changed."""
    with written(folder) as partial:
        scores.save(partial / SCORES)
        graph.save(partial / CIRCUIT)
        graph.draw(partial / PICTURE)
        (partial / PAGE).write_text(page, encoding="utf-8")
        (partial / RECORD).write_text(record.to_json(), encoding="utf-8")


def make_ready(folder: Path) -> None:
    """Clear away what dead processes left beside a folder that is to be written.

    Raises:
        RunError: nothing can be written there.
    """
    _check_writable(folder)
    _recover(folder)


@contextmanager
def written(folder: Path, check: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """A new, empty folder that takes the place of `folder` when the block ends without an error.

    What was there from the start gives way if `check` does not refuse it, by default if it is a
    run; one that another process made meanwhile does not, and is a `RunError`.
    """
    folder = folder.resolve()
    replace = folder.exists()
    partial = _sibling(folder, "partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}") from None
    try:
        yield partial
        _install(partial, folder, (check or _check_ours) if replace else None)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _install(partial: Path, folder: Path, check: Callable[[Path], None] | None) -> None:
    aside = _sibling(folder, "old")
    try:
        if check is not None and folder.exists():
            check(folder)
            folder.rename(aside)
        partial.rename(folder)
    except OSError as error:
        raise RunError(f"{folder} was made by another run meanwhile; nothing written") from error
    finally:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)


def _check_writable(folder: Path) -> None:
    home = folder.resolve().parent
    while not home.exists():
        home = home.parent
    if not (home.is_dir() and os.access(home, os.W_OK)):
        raise RunError(f"{folder} cannot be written: {home} is no folder that can be written to")


def _check_ours(folder: Path) -> None:
    """Only a folder that holds a run, and nothing but a run, may be replaced."""
    if not folder.is_dir():
        raise RunError(f"{folder} is a file, not a run folder; choose another --out")
    names = {entry.name for entry in folder.iterdir()}
    if names and not _is_run(folder / RECORD):
        raise RunError(f"{folder} holds something that is not a run; choose another --out")
    if others := sorted(names - {*FILES, *OF_A_SEARCH, EVALUATION, CURVES}):
        raise RunError(
            f"{folder} holds files beside its run ({', '.join(others[:5])}); "
            f"move them away, or choose another --out"
        )


def _is_run(path: Path) -> bool:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND


def _record(folder: Path) -> RunRecord | None:
    try:
        return read_record(folder / RECORD)
    except FormatError:
        return None


def _difference(record: RunRecord | None, config: Config) -> str:
    if record is None:
        return "its run.json cannot be read"
    wanted = config.to_json()
    changed = [
        f"{name} {record.config.get(name)!r}, now {wanted[name]!r}"
        for name in wanted
        if record.config.get(name) != wanted[name]
    ]
    return "; ".join(changed) or "the files of its task or model have changed since"


def _sibling(folder: Path, role: str) -> Path:
    return folder.with_name(f"{_prefix(folder)}{os.getpid()}.{role}")


def _prefix(folder: Path) -> str:
    return f".{folder.name}.{platform.node()}."


def _recover(folder: Path) -> None:
    """Clear away what dead processes of this machine left; put back a run they had set aside."""
    folder = folder.resolve()
    for role in ("old", "partial"):
        for left in folder.parent.glob(f"{escape(_prefix(folder))}*.{role}"):
            if _alive(left.name.split(".")[-2]):
                continue
            if role == "old" and not folder.exists():
                left.rename(folder)
            else:
                shutil.rmtree(left, ignore_errors=True)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True
    return True
