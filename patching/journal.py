"""What a long command has computed so far, on the disk: a killed one goes on where it was.

1. The shards of every loop are appended to one file, in the order in which they are computed.
2. The same command, begun again, reads them back in that order instead of computing them.
3. The first one that is missing, cut off in the middle or of other work ends the reading; the file
   is cut there, and what is computed from then on is appended.

The same command computes the same shards in the same order, so no shard needs a name: what is
written beside it (of which work, model and prompts) only tells whether it is the same command.
"""

from __future__ import annotations

import fcntl
import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from patching.processes import leads
from tasks.errors import CircuitsError

Arrays = np.ndarray | tuple[np.ndarray, ...]
"""What a shard gives: one array, or several."""

_HEAD = struct.Struct("<32sqqdqI")
"""Digest of the work, first row, row after the last, seconds, bytes that follow, their checksum."""


@dataclass(frozen=True)
class Shard:
    """The rows ``start`` to ``stop`` of a loop, what they gave, and the seconds that took."""

    start: int
    stop: int
    value: Any
    seconds: float


class Journal:
    """The shards of one command, at ``path``; ``about`` says which command, and of which version.

    Where another process writes the same file, nothing is read or written.
    """

    def __init__(self, path: Path, about: str) -> None:
        self.path = path
        self.about = sha256(about.encode()).digest()
        self.saved = 0.0
        """Seconds of work that was read back."""
        self._file: io.BufferedRandom | None = None
        self._ours = True
        self._reading = path.exists() and self._open()

    def recall(self, work: bytes, start: int) -> Shard | None:
        """The next shard, if it is that of this work from this row on."""
        if not self._reading or self._file is None:
            return None
        place = self._file.tell()
        head = self._file.read(_HEAD.size)
        if len(head) == _HEAD.size:
            key, begin, stop, seconds, length, checksum = _HEAD.unpack(head)
            content = self._file.read(length)
            whole = len(content) == length and crc32(content) == checksum
            if whole and (key, begin) == (work, start):
                self.saved += seconds
                return Shard(start, stop, _unpacked(content), seconds)
        self._file.seek(place)
        self._file.truncate()
        self._reading = False
        return None

    def append(self, work: bytes, shard: Shard) -> None:
        """Write a shard that was just computed; it outlives this process from now on."""
        if self._file is None and not (self._ours and self._open()):
            return
        assert self._file is not None
        content = _packed(shard.value)
        head = (work, shard.start, shard.stop, shard.seconds, len(content), crc32(content))
        self._file.write(_HEAD.pack(*head) + content)
        self._file.flush()

    def _open(self) -> bool:
        """Open the file for this process alone; whether what is in it is of this command."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        file = self.path.open("r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            self._ours = False
            return False
        self._file = file
        if file.read(len(self.about)) == self.about:
            return True
        file.seek(0)
        file.truncate()
        file.write(self.about)
        return True

    def close(self, done: bool) -> None:
        """Let go of the file, and remove it if it has served."""
        if self._file is not None:
            if done:
                self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


@contextmanager
def kept(output: Path | None, *about: object) -> Iterator[Journal | None]:
    """The journal of a command that writes ``output``, beside it as ``.NAME.journal``; or none.

    It is removed when the command ends, also with a message about its input or with Ctrl-C; after
    anything else, such as a kill or a full disk, it stays, and the same command goes on from it. Of
    several processes the first has it.
    """
    if output is None or not leads():
        yield None
        return
    output = output.resolve()
    journal = Journal(output.with_name(f".{output.name}.journal"), repr(about))
    done = True
    try:
        yield journal
    except BaseException as error:
        done = isinstance(error, CircuitsError | KeyboardInterrupt)
        raise
    finally:
        journal.close(done)


def _packed(value: Arrays) -> bytes:
    """How many arrays there are (0: one that is no tuple), and each as numpy writes it."""
    buffer = io.BytesIO()
    several = isinstance(value, tuple)
    buffer.write(bytes([len(value) if several else 0]))
    for array in value if several else (value,):
        np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def _unpacked(content: bytes) -> Arrays:
    buffer = io.BytesIO(content)
    (several,) = buffer.read(1)
    arrays = [np.lib.format.read_array(buffer, allow_pickle=False) for _ in range(max(several, 1))]
    return tuple(arrays) if several else arrays[0]
