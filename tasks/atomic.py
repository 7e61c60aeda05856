"""Writing a file so that it is whole, or as it was before, whatever happens meanwhile.

What is being written has a temporary name beside its own, `.NAME.HOST.PROCESS.RANDOM.partial`, that
nobody can foresee and that is never a link; it is renamed once it is complete. What a dead process
left is told by its number, and cleared away by the next one that writes the same name.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from tasks.errors import FormatError

LONGEST = 100
"""Bytes of a name that its temporary names repeat; file systems allow 255 for a whole name."""
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
NEW |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write under a temporary name and rename, so that ``path`` is whole or as it was before.

    Raises:
        FormatError: the folder does not exist or cannot be written, or the disk is full.
    """
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of ``path`` when the block ends without an error.

    Raises:
        FormatError: as for :func:`write_atomically`.
    """
    path = Path(path)
    partial = temporary(path)
    try:
        with _opened(path, partial) as file:
            yield file
            file.flush()
            # Without this, a power cut after the rename may leave an empty file under the name.
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise FormatError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError, ValueError):
            partial.unlink(missing_ok=True)


def _opened(path: Path, partial: Path) -> BinaryIO:
    try:
        for left in left_behind(path):
            left.unlink(missing_ok=True)
        return os.fdopen(os.open(partial, NEW, 0o666), "wb")
    except ValueError as error:
        raise FormatError(f"cannot write {str(path)!r}: {error}") from None


def temporary(path: Path, role: str = "partial") -> Path:
    """A name beside ``path`` that nothing has yet; what it is for is its ending."""
    return path.parent / f"{_prefix(path)}{os.getpid()}.{token_hex(8)}.{role}"


def left_behind(path: Path, role: str = "partial") -> list[Path]:
    """What dead processes of this machine left beside ``path`` under temporary names."""
    prefix = _prefix(path)
    places = sorted(path.parent.glob(f"{escape(prefix)}*.{role}"))
    return [left for left in places if not alive(left.name[len(prefix) :].partition(".")[0])]


def alive(process: str | int) -> bool:
    """Whether a process of this machine runs; what is not a number is taken for one that does."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, OSError):
        return True
    return True


def short_name(path: Path) -> str:
    """The name of a file or folder, cut where names made of it would be too long."""
    data = os.fsencode(path.name)
    if len(data) <= LONGEST:
        return path.name
    return f"{path.name[:20]}~{hashlib.sha256(data).hexdigest()[:16]}"


def host() -> str:
    """What this machine calls itself."""
    return platform.node() or "here"


def _prefix(path: Path) -> str:
    return f".{short_name(path)}.{host()}."
