"""Folders and files of results: complete or absent, never half-written, and never somebody else's.

What stands in a place when a command starts decides: :func:`guarded` keeps the place for the
command, and what was not there at the start is never replaced. A result that finds its place taken
is kept beside it, under a name that the error tells.

Of several processes that carry out one command (:mod:`patching.processes`) the first keeps places
and writes; what the others make goes nowhere, and they wait until the result is there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from circuits.lock import locked, state
from graphs.files import read_bytes, read_json
from patching.processes import leads, of_first
from tasks.atomic import left_behind, temporary, write_atomically
from tasks.errors import FormatError, RunError

MOST_BESIDE = 1000


def _a(noun: str) -> str:
    """The noun with its article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


@dataclass(frozen=True)
class Output:
    """What a folder of one kind is called, and what it holds.

    name    what messages call it: run, study, mitigation
    report  the file that says what the folder is
    kind    what that file says
    files   the names that the folder's files may have
    """

    name: str
    report: str
    kind: str
    files: re.Pattern[str]

    def check(self, folder: Path) -> None:
        """Refuse to replace anything but a folder of this kind that holds nothing else.

        Raises:
            RunError: see above.
        """
        if not folder.is_dir():
            raise RunError(f"{folder} is a file, not a folder; choose another --out")
        names = {entry.name for entry in folder.iterdir()}
        if names and not self._is_one(folder / self.report):
            raise RunError(
                f"{folder} holds something that is not {_a(self.name)}; choose another --out"
            )
        if others := sorted(name for name in names if not self.files.fullmatch(name)):
            raise RunError(
                f"{folder} holds files beside its {self.name} ({', '.join(others[:5])}); "
                f"move them away, or choose another --out"
            )

    @contextmanager
    def reserved(self, folder: Path | None, force: bool = False) -> Iterator[None]:
        """Keep a folder for the block; before it, refuse one that must not be replaced.

        Raises:
            RunError: it holds something else, or one of this kind and `force` is not given;
                nothing can be written there, or another process is at it.
        """
        if folder is None or not leads():
            yield
            return
        with guarded(folder):
            if not vacant(folder):
                self.check(folder)
                if not force:
                    raise RunError(
                        f"{folder} holds {_a(self.name)} already; choose another --out, or replace "
                        f"it with --force"
                    )
            yield

    def _is_one(self, path: Path) -> bool:
        try:
            found = read_json(read_bytes(path), str(path), allow_nan=True)
        except FormatError:
            return False
        return isinstance(found, dict) and found.get("kind") == self.kind


def vacant(folder: Path) -> bool:
    """Whether nothing is there yet."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


@contextmanager
def guarded(place: Path) -> Iterator[None]:
    """Keep a folder or file for the length of the block: nobody else of ours writes it.

    What dead processes left of it is cleared away first.

    Raises:
        RunError: another process or thread is at it, or nothing can be written there.
    """
    if not leads():
        yield
        return
    place = make_ready(place)
    with locked(place):
        yield


def make_ready(place: Path) -> Path:
    """The place, without links on the way to it.

    Raises:
        RunError: nothing can be written there.
    """
    try:
        resolved = place.resolve()
        resolved.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{place} cannot be written: {reason}") from None
    home = resolved.parent
    while not home.exists():
        home = home.parent
    if not (home.is_dir() and os.access(home, os.W_OK)):
        raise RunError(f"{place} cannot be written: {home} is no folder that can be written to")
    return resolved


def to_read(place: Path) -> Path:
    """Where to read a folder: one that was set aside by a killed process, if it is not back yet."""
    if place.exists():
        return place
    return next(iter(left_behind(place.resolve(), "old")), place)


@contextmanager
def written(folder: Path, check: Callable[[Path], None], add: bool = False) -> Iterator[Path]:
    """A new folder that takes the place of `folder` when the block ends without an error.

    It is empty, or with `add` holds what is there already. What was there when the command began
    gives way if `check` does not refuse it; a result whose place is taken meanwhile is kept beside.

    Raises:
        RunError: `check` refuses, nothing can be written, or the place is taken.
    """
    with _shared(folder) as folder, _replaced(folder, check, add) as partial:
        yield partial


@contextmanager
def _replaced(folder: Path, check: Callable[[Path], None], add: bool) -> Iterator[Path]:
    partial = temporary(folder)
    with _owned(folder) as before:
        try:
            try:
                partial.mkdir(parents=True)
                if add and before is not None and folder.exists():
                    before = state(folder)
                    shutil.copytree(folder, partial, symlinks=True, dirs_exist_ok=True)
            except OSError as error:
                raise RunError(f"{folder} cannot be written: {error.strerror or error}") from None
            yield partial
            _open_up(partial)
            if before is None or state(folder) != before:
                _keep_beside(folder, partial.rename)
            _install(partial, folder, check)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Have a file written, unless something has taken its place since the command began.

    Raises:
        RunError: see above; the file is written beside it then.
    """
    with _shared(path) as path, _owned(path) as before:
        if before is None or state(path) != before:
            _keep_beside(path, write)
        write(path)


@contextmanager
def _shared(place: Path) -> Iterator[Path]:
    """Where this process writes: the place itself, or if it is not the first, one that goes.

    All processes leave the block once the first has.
    """
    place = place.resolve()
    if leads():
        yield place
    else:
        with TemporaryDirectory() as scratch:
            yield Path(scratch).resolve() / place.name
    of_first(None, f"writing {place.name}")


@contextmanager
def _owned(place: Path) -> Iterator[str | None]:
    """What stood in the place when this thread began to work on it; None where others do."""
    with ExitStack() as stack:
        try:
            before: str | None = stack.enter_context(locked(place)).before
        except RunError:
            before = None
        yield before


def _keep_beside(place: Path, keep: Callable[[Path], object]) -> NoReturn:
    """Keep a result under the first free name beside its place, and say so."""
    for number in range(2, MOST_BESIDE):
        other = place.with_name(f"{place.stem}-{number}{place.suffix}")
        with suppress(RunError, OSError), locked(other):
            if vacant(other):
                keep(other)
                break
    else:
        raise RunError(f"{place} was made by another process meanwhile; nothing can be kept")
    raise RunError(
        f"{place} was made or changed by another process meanwhile; this result is kept in {other}"
    )


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a JSON file; it is there whole or not at all."""
    write_atomically(path, (json.dumps(data, indent=2, allow_nan=False) + "\n").encode())


@contextmanager
def adding(folder: Path) -> Iterator[Path]:
    """Where to write, so that all files appear in the folder at once.

    A folder in which the user stands is not replaced under their feet.
    """
    if leads() and Path.cwd().is_relative_to(folder.resolve()):
        yield folder
        of_first(None, f"writing {folder.resolve().name}")
        return
    with written(folder, lambda _: None, add=True) as partial:
        yield partial


def _open_up(folder: Path) -> None:
    """Let others read the files whom the folder lets in: safetensors writes for the owner alone.

    And have all of it on the disk before it gets its name.
    """
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode | mode)
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _install(partial: Path, folder: Path, check: Callable[[Path], None]) -> None:
    aside = temporary(folder, "old")
    try:
        if not vacant(folder):
            check(folder)
            folder.rename(aside)
        partial.rename(folder)
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}") from error
    finally:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
