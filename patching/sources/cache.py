"""The user's cache: models converted once, each in a directory named by the hash of its source.

It is `circuits/models` in the user's cache folder ($XDG_CACHE_HOME, else ~/.cache), or `models` in
the folder that $CIRCUITS_CACHE names. A directory appears whole or not at all: it is written under
a temporary name and renamed, by one process at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tasks.atomic import temporary, write_atomically
from tasks.errors import FormatError, ModelError

VARIABLE = "CIRCUITS_CACHE"
ABOUT = "circuits_source.json"
"""In a converted model: what it was converted from."""
CONVERTED = re.compile(r"[0-9a-f]{64}")
LEFT = re.compile(r"\.[0-9a-f]{64}\..*\.partial")
STAMP = re.compile(r"[0-9a-f]{32}\.stamp")


def home() -> Path:
    """The folder of converted models; it need not exist."""
    if named := os.environ.get(VARIABLE):
        return Path(os.path.expanduser(named)) / "models"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(base)) / "circuits" / "models"


def folder(sha256: str) -> Path:
    """Where the model of a source with this hash is kept, once it is converted."""
    return home() / sha256


def about(path: Path) -> dict[str, Any]:
    """What a directory says it was converted from; empty where it says nothing."""
    try:
        record = json.loads((path / ABOUT).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


@contextmanager
def making(sha256: str, needed: int) -> Iterator[Path | None]:
    """An empty folder that becomes :func:`folder` when the block ends without an error.

    None where another process has made it meanwhile. ``needed`` is how many bytes will be written.

    Raises:
        ModelError: the cache cannot be written, or the disk has less room than needed.
    """
    from filelock import FileLock

    place = folder(sha256)
    try:
        home().mkdir(parents=True, exist_ok=True)
        lock = FileLock(home() / f".{sha256}.lock")
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise ModelError(_unwritable(error)) from None
    try:
        if place.is_dir():
            yield None
            return
        for left in home().glob(f".{sha256}.*.partial"):
            shutil.rmtree(left, ignore_errors=True)
        check_room(needed)
        with _partial(sha256) as partial:
            yield partial
            # safetensors writes for the owner alone; whom the folder lets in may read its files.
            for file in partial.iterdir():
                file.chmod(partial.stat().st_mode & 0o666)
            partial.rename(place)
    finally:
        lock.release()


@contextmanager
def _partial(sha256: str) -> Iterator[Path]:
    partial = temporary(folder(sha256))
    try:
        partial.mkdir()
        yield partial
    except OSError as error:
        raise ModelError(_unwritable(error)) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_room(needed: int) -> None:
    """Refuse where the disk of the cache has less room than a model takes.

    Raises:
        ModelError: see above.
    """
    free = shutil.disk_usage(home()).free
    if free < needed:
        raise ModelError(
            f"the converted model takes {needed / 1e9:.2f} GB, and the disk of {home()} has "
            f"{free / 1e9:.2f} GB left; make room there, or let {VARIABLE} name a folder on "
            f"another disk"
        )


def _unwritable(error: Exception) -> str:
    return (
        f"converted models are kept in {home()}, which cannot be written: "
        f"{getattr(error, 'strerror', None) or error}; let {VARIABLE} name a folder that can be"
    )


def stamped(path: Path, compute: Callable[[], str]) -> str:
    """The hash of a file; computed again only where its size or time of change is another.

    Raises:
        OSError: the file cannot be read.
    """
    where = path.resolve()
    state = where.stat()
    stamp = {"path": str(where), "size": state.st_size, "changed": state.st_mtime_ns}
    key = hashlib.sha256(str(where).encode(errors="surrogateescape")).hexdigest()
    note = home() / f"{key[:32]}.stamp"
    try:
        known = json.loads(note.read_bytes())
        if isinstance(known, dict) and known | stamp == known and isinstance(known["sha256"], str):
            return known["sha256"]
    except (OSError, ValueError, KeyError, RecursionError):
        pass
    value = compute()
    # A note that cannot be kept costs no more than the time to hash again.
    with suppress(OSError, FormatError):
        home().mkdir(parents=True, exist_ok=True)
        write_atomically(note, json.dumps(stamp | {"sha256": value}).encode())
    return value


def clear() -> int:
    """Remove the converted models and what belongs to them; how many bytes that freed.

    Anything else in the folder stays: it is not ours.

    Raises:
        ModelError: one is being converted at this moment, or something cannot be removed.
    """
    if not home().is_dir():
        return 0
    freed = 0
    try:
        for sha256 in sorted({path.name.split(".")[path.name[0] == "."] for path in _ours()}):
            freed += _forget(sha256)
        for note in (path for path in home().iterdir() if STAMP.fullmatch(path.name)):
            note.unlink()
    except OSError as error:
        raise ModelError(
            f"{error.filename or home()} cannot be removed: {error.strerror}; {freed / 1e6:.0f} MB "
            f"were freed before"
        ) from None
    return freed


def _ours() -> Iterator[Path]:
    """Converted models, and what an interrupted conversion left of one."""
    for path in home().iterdir():
        whole = CONVERTED.fullmatch(path.name) and (path / ABOUT).is_file()
        if path.is_dir() and not path.is_symlink() and (whole or LEFT.fullmatch(path.name)):
            yield path


def _forget(sha256: str) -> int:
    from filelock import FileLock, Timeout

    try:
        with FileLock(home() / f".{sha256}.lock", timeout=0):
            mine = [path for path in _ours() if sha256 in path.name]
            freed = sum(file.stat().st_size for path in mine for file in path.rglob("*"))
            for path in mine:
                shutil.rmtree(path)
            return freed
    except Timeout:
        raise ModelError(
            f"the model {sha256[:12]}... in {home()} is being converted; wait for that, then clear"
        ) from None
