"""A model in a GGUF file: which file, what it is called, and why it cannot be opened."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from patching.sources import cache
from patching.sources.header import Header
from tasks.errors import ModelError

SUFFIX = ".gguf"
BLOCK = 1 << 20
COUNTS = (
    *(".block_count", ".embedding_length", ".feed_forward_length", ".head_count", ".vocab_size"),
    *(".head_count_kv", ".expert_count", ".key_length", ".value_length", ".dimension_count"),
)
READERS = ("gguf", "accelerate")
BLOCK_NAME = re.compile(r"blk\.(\d{1,6})\.")
PART = re.compile(r"-(\d{5})-of-(\d{5})$")


@dataclass(frozen=True, slots=True)
class Gguf:
    """A GGUF file, or one in parts that are joined in order.

    name      what is typed to open it
    title     what the model is called, without its quantisation
    parts     the file, or its parts
    expected  the SHA-256 it must have; empty where any will do
    """

    name: str
    title: str
    parts: tuple[Path, ...]
    expected: str = ""

    @classmethod
    def of_file(cls, path: Path) -> Gguf:
        """The one in a file of the user's."""
        return cls(str(path), path.stem, (path,))

    @property
    def sha256(self) -> str:
        """SHA-256 of the file; read again only where its size or time of change is another.

        Raises:
            ModelError: it cannot be read.
        """
        if self.expected:
            return self.expected
        try:
            return cache.stamped(self.parts[0], lambda: _hash(self._blocks()))
        except OSError as error:
            raise ModelError(f"{self.name} cannot be read: {error.strerror}") from None

    def check_hash(self) -> None:
        """Refuse another file than the one expected.

        Raises:
            ModelError: see above.
        """
        self._expect(_hash(self._blocks()))

    def join(self, path: Path) -> None:
        """Write the parts as one file.

        Raises:
            ModelError: the whole is not the file expected.
        """
        with path.open("wb") as file:
            self._expect(_hash(self._blocks(), file))

    def _blocks(self) -> Iterator[bytes]:
        """The bytes of the file, part after part."""
        for part in self.parts:
            with part.open("rb") as file:
                while block := file.read(BLOCK):
                    yield block

    def _expect(self, sha256: str) -> None:
        if self.expected and sha256 != self.expected:
            raise ModelError(
                f"what is installed as {self.name} is not the file of that name: its SHA-256 is "
                f"{sha256[:12]}..., not {self.expected[:12]}...; install it again (see circuits "
                f"models), or open the file by its path ({self.parts[0]})"
            )


def _hash(blocks: Iterable[bytes], copy: BinaryIO | None = None) -> str:
    hasher = hashlib.sha256()
    for block in blocks:
        hasher.update(block)
        if copy is not None:
            copy.write(block)
    return hasher.hexdigest()


def check_readable(path: Path) -> None:
    """Refuse, without reading it, a GGUF file that cannot be opened.

    Raises:
        ModelError: there is no such file, or it is one part of several.
    """
    if not path.is_file():
        raise ModelError(f"there is no file '{path}'")
    if part := PART.search(path.stem):
        _refuse_parts(path, *map(int, part.groups()))


def check_readers() -> None:
    """Refuse where the packages that read GGUF are not installed.

    Raises:
        ModelError: names them, and the line that installs them.
    """
    if missing := [name for name in READERS if find_spec(name) is None]:
        names = " and ".join(missing)
        raise ModelError(
            f"to read GGUF files, circuits needs the package {names}, which is not installed: "
            f"pip install {' '.join(missing)}"
        )


def check_complete(path: Path, header: Header) -> None:
    """Refuse a file of which something is missing; all that is wrong is said.

    Raises:
        ModelError: see above.
    """
    count, number = (header.facts.get(f"split.{key}", 0) for key in ("count", "no"))
    if not (isinstance(count, int) and isinstance(number, int) and 0 <= number <= count):
        raise ModelError(f"{path} is broken: it is part {number!r} of {count!r}; fetch it again")
    if count > 1:
        _refuse_parts(path, number + 1, count)
    try:
        complete = header.complete
    except ValueError as error:
        raise ModelError(f"{path} is broken, or newer than the package gguf: {error}") from None
    if header.size < complete:
        raise ModelError(
            f"{path} is incomplete: {header.size:,} of {complete:,} bytes are there (an "
            f"interrupted download?); fetch it again"
        )
    faults = []
    if not header.architecture:
        faults.append("it does not say which architecture it holds")
    if not header.tensors:
        faults.append("it holds no weights")
    blocks = {int(match[1]) for t in header.tensors if (match := BLOCK_NAME.match(t.name))}
    counted = header.facts.get(f"{header.architecture}.block_count")
    if blocks and isinstance(counted, int) and max(blocks) + 1 != counted:
        faults.append(f"it says that it has {counted} layers, and holds {max(blocks) + 1}")
    for name, value in header.facts.items():
        if name.endswith(COUNTS) and isinstance(value, int) and value > header.weights.limit:
            faults.append(f"{name} is {value}, and no axis of its weights is as long")
    if not header.facts.get("tokenizer.ggml.tokens"):
        faults.append("it holds no tokenizer, so it cannot be asked anything")
    if faults:
        raise ModelError(
            f"{path} cannot be opened: {'; '.join(faults)}. Take another GGUF file of the model, "
            f"or its directory of config.json and model.safetensors"
        )


def _refuse_parts(path: Path, number: int, count: int) -> None:
    """A model in several files: which are missing, and how to join them."""
    stem = PART.sub("", path.stem)
    names = [f"{stem}-{i:05d}-of-{count:05d}{SUFFIX}" for i in range(1, min(count, 99999) + 1)]
    missing = [name for name in names if not (path.parent / name).is_file()]
    first = f"{path} is part {number} of {count} of a model"
    join = (
        f"Join them into one file, which circuits opens: llama-gguf-split --merge {names[0]} "
        f"{stem}{SUFFIX} (the program comes with llama.cpp)"
    )
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ModelError(f"{first}, of which {shown} {_be(missing)} not there; fetch it. {join}")
    raise ModelError(f"{first}. {join}")


def _be(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
