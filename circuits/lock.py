"""Who writes a folder or a file: one command at a time, told by a lock file beside it.

`.NAME.lock` holds machine, process and thread, since when, and what stood there at the start. The
system locks it too (`flock`), so that a process gives it up however it ends; what a dead one left
is taken over, with a warning of the logger `circuits`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tasks.atomic import alive, host, left_behind, short_name
from tasks.errors import RunError

TRIES = 100
OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True)
class Owner:
    """Who works on a folder or file, since when, and what stood there then: :func:`state`."""

    host: str
    process: int
    thread: int
    since: str
    before: str

    @classmethod
    def this_thread(cls, path: Path) -> Owner:
        """The thread that asks, from now on."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(host(), os.getpid(), threading.get_native_id(), now, state(path))

    @property
    def is_this_thread(self) -> bool:
        """Whether it is the thread that asks."""
        mine = host(), os.getpid(), threading.get_native_id()
        return (self.host, self.process, self.thread) == mine

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


def state(path: Path) -> str:
    """A hash of what a folder or file is at this moment, empty where nothing is there.

    It changes with every file of a folder that is added, written or replaced.
    """
    places = sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
    if not places:
        return ""
    seen = [(place.name, *_looks(place)) for place in places]
    return hashlib.sha256(repr(seen).encode(errors="surrogatepass")).hexdigest()[:32]


def _looks(path: Path) -> tuple[int, ...]:
    try:
        status = path.lstat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def owner_of(path: Path) -> Owner | None:
    """What the lock file beside a place says; None where there is none, or it says nothing."""
    try:
        return Owner(**json.loads(_lock_of(path).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def locked(path: Path) -> Iterator[Owner]:
    """Keep a place for this thread while the block runs; within the block it may do so again.

    Raises:
        RunError: another process or thread works on it, or no lock file can be written there.
    """
    owner = owner_of(path)
    if owner and owner.is_this_thread and not _free(path):
        yield owner
        return
    made = _missing(path.parent)
    try:
        with _taken(path) as descriptor:
            yield _noted(path, descriptor)
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def _lock_of(path: Path) -> Path:
    return path.parent / f".{short_name(path)}.lock"


def _missing(folder: Path) -> list[Path]:
    """The folders that are yet to be made, innermost first."""
    return [place for place in (folder, *folder.parents) if not place.exists()]


@contextmanager
def _taken(path: Path) -> Iterator[int]:
    """The lock file, opened and locked; gone after the block.

    Who waits for it looks whether it is still the file of that name, so it can be removed.
    """
    for _ in range(TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(_lock_of(path), OPEN, 0o666)
        except FileNotFoundError:
            continue  # another process has just removed a folder that it had made for nothing
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror}") from None
        ours = False
        try:
            ours = _lock(descriptor, path)
            if not _is_there(path, descriptor):
                continue  # its owner has removed it meanwhile
            if fault := _fault(path, ours):
                ours = False
                raise RunError(fault)
            yield descriptor
            return
        finally:
            if ours and _is_there(path, descriptor):
                _lock_of(path).unlink(missing_ok=True)
            os.close(descriptor)
    raise RunError(f"{path} cannot be locked: other processes come and go there; try again")


def _fault(path: Path, ours: bool) -> str:
    """Why a place cannot be had: another process, thread or machine is at it."""
    owner = owner_of(path)
    if ours and (owner is None or owner.host == host()):
        return ""
    # The locks of another machine need not be seen here.
    way = f"if that has ended, delete {_lock_of(path)}" if ours else "wait, or choose another name"
    return f"{path} is being written by {owner or 'another process'}; {way}"


def _lock(descriptor: int, path: Path) -> bool:
    """Whether the system gives us the lock; where it has none, whether its owner is dead."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        owner = owner_of(path)
        return owner is None or (owner.host == host() and not alive(owner.process))
    return True


def _free(path: Path) -> bool:
    """Whether nobody holds the lock file that is there."""
    try:
        descriptor = os.open(_lock_of(path), OPEN & ~os.O_CREAT)
    except OSError:
        return True
    try:
        return _lock(descriptor, path)
    finally:
        os.close(descriptor)


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether the opened lock file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), _lock_of(path).lstat())
    except OSError:
        return False


def _noted(path: Path, descriptor: int) -> Owner:
    """Clear away what dead processes left, and write ourselves into a lock file that we hold."""
    if left := owner_of(path):
        words = "%s was left by %s, which has ended; what it had not finished is cleared away"
        logging.getLogger("circuits").warning(words, path, left)
    recover(path)
    owner = Owner.this_thread(path)
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(owner)).encode(), 0)
    return owner


def recover(path: Path) -> None:
    """Clear away what dead processes left beside a place; put back what they had set aside."""
    for left in left_behind(path, "old"):
        if not path.exists():
            left.rename(path)
        _remove(left)
    for left in left_behind(path):
        _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
