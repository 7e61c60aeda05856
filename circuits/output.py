"""Folders of results: complete or absent, never half-written, and never somebody else's.

A folder is written under a temporary name beside its own, `.NAME.HOST.PID.partial`, and renamed
once it is complete. What a killed process left behind is cleared away by the next one.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from tasks.errors import RunError


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
                f"{folder} holds something that is not a {self.name}; choose another --out"
            )
        if others := sorted(name for name in names if not self.files.fullmatch(name)):
            raise RunError(
                f"{folder} holds files beside its {self.name} ({', '.join(others[:5])}); "
                f"move them away, or choose another --out"
            )

    def prepare(self, folder: Path, force: bool = False) -> None:
        """Refuse, before anything is computed, a folder that must not be replaced.

        Raises:
            RunError: it holds something else, or one of this kind and `force` is not given; or
                nothing can be written there.
        """
        make_ready(folder)
        if vacant(folder):
            return
        self.check(folder)
        if not force:
            raise RunError(
                f"{folder} holds a {self.name} already; choose another --out, or replace it with "
                f"--force"
            )

    def _is_one(self, path: Path) -> bool:
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return False
        return isinstance(found, dict) and found.get("kind") == self.kind


def vacant(folder: Path) -> bool:
    """Whether nothing is there yet."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def make_ready(folder: Path) -> None:
    """Clear away what dead processes left beside a folder that is to be written.

    Raises:
        RunError: nothing can be written there.
    """
    _check_writable(folder)
    _recover(folder)


@contextmanager
def written(folder: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """A new, empty folder that takes the place of `folder` when the block ends without an error.

    What was there from the start gives way if `check` does not refuse it; what another process
    made meanwhile does not, and is a `RunError`.
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
        _open_up(partial)
        _install(partial, folder, check if replace else None)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _open_up(folder: Path) -> None:
    """Let others read the files whom the folder lets in: safetensors writes for the owner alone."""
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode | mode)


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
