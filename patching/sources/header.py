"""The header of a GGUF file: what it says of the model, and whether all of the file is there.

The file starts with the number of tensors and of key-value pairs; the pairs, the table of tensors
and their data follow. Nothing is believed: every length is compared with what is left of the file.
Source: the GGUF specification of ggml, versions 2 and 3.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from patching.sources.directory import Weights
from tasks.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
MOST_DIMENSIONS = 8
MOST_TENSORS, MOST_FACTS, MOST_TEXTS = 100_000, 10_000, 4_000_000
"""Several times what the largest models have; the largest vocabularies have 300,000 words."""
ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class Tensor:
    """A row of the table: its number type as ggml counts them, and where its data start."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says before its data.

    facts    the key-value pairs; of an array how many values it has
    tensors  the table of tensors
    starts   where the data start, in bytes
    size     of the file, in bytes
    """

    facts: dict[str, Any]
    tensors: tuple[Tensor, ...]
    starts: int
    size: int

    @property
    def architecture(self) -> str:
        """As ggml calls it; empty where the file does not say."""
        return str(self.facts.get("general.architecture", ""))

    @property
    def weights(self) -> Weights:
        """How much there is."""
        return Weights.of([tensor.shape for tensor in self.tensors])

    @property
    def complete(self) -> int:
        """How many bytes the file has where nothing is missing."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        ends = [self.starts]
        for tensor in self.tensors:
            block, width = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)]
            ends.append(self.starts + tensor.offset + prod(tensor.shape) // block * width)
        return max(ends)

    @property
    def quantisation(self) -> str:
        """As in Q4_K_M: what the file calls its type, or else the type of most of its numbers."""
        from gguf.constants import GGMLQuantizationType, LlamaFileType

        try:
            name = LlamaFileType(self.facts.get("general.file_type", -1)).name
            return name.removeprefix("MOSTLY_").removeprefix("ALL_")
        except ValueError:
            counts: Counter[int] = Counter()
            for tensor in self.tensors:
                counts[tensor.kind] += prod(tensor.shape)
            return GGMLQuantizationType(counts.most_common(1)[0][0]).name


def read_header(path: Path) -> Header:
    """The header of a GGUF file.

    Raises:
        ModelError: it cannot be read, is no GGUF file, or ends within its header.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ModelError(f"{path} is not a GGUF file: it does not begin with GGUF")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(data).header()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    except (struct.error, UnicodeDecodeError, _BrokenError) as error:
        raise ModelError(
            f"{path} is broken or incomplete: its header cannot be read to the end ({error}); "
            f"fetch it again"
        ) from None


class _BrokenError(Exception):
    """The header says something that cannot be."""


class _Reader:
    """Walks through a header from its start."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = len(MAGIC)
        self.texts = 0

    def header(self) -> Header:
        (version,) = self.take("I")
        if version not in VERSIONS:
            raise _BrokenError(f"version {version}; versions 2 and 3 can be read")
        n_tensors, n_facts = self.take("QQ")
        if n_tensors > MOST_TENSORS or n_facts > MOST_FACTS:
            raise _BrokenError(f"{n_tensors:,} tensors and {n_facts:,} facts")
        facts = {}
        for _ in range(n_facts):
            name = self.text()
            facts[name] = self.value(*self.take("I"))
        tensors = tuple(self.tensor() for _ in range(n_tensors))
        alignment = facts.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise _BrokenError(f"alignment {alignment!r}")
        starts = -(-self.at // alignment) * alignment
        return Header(facts, tensors, starts, len(self.data))

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values

    def skip(self, length: int) -> None:
        if length > len(self.data) - self.at:
            raise _BrokenError(f"a value of {length} bytes is longer than the file")
        self.at += length

    def text(self) -> str:
        (length,) = self.take("Q")
        start = self.at
        self.skip(length)
        return self.data[start : self.at].decode()

    def value(self, kind: int) -> Any:
        if kind in SCALARS:
            return self.take(SCALARS[kind])[0]
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            return self.array(*self.take("IQ"))
        raise _BrokenError(f"a value of the unknown type {kind}")

    def array(self, kind: int, count: int) -> int:
        """Skips an array; a vocabulary is of no use here."""
        if kind in SCALARS:
            self.skip(count * struct.calcsize(SCALARS[kind]))
        elif kind == STRING:
            self.texts += count
            if self.texts > MOST_TEXTS:
                raise _BrokenError(f"lists of {self.texts:,} texts")
            for _ in range(count):
                self.skip(*self.take("Q"))
        else:
            raise _BrokenError(f"an array of the unknown type {kind}")
        return count

    def tensor(self) -> Tensor:
        name = self.text()
        (n_dims,) = self.take("I")
        if n_dims > MOST_DIMENSIONS:
            raise _BrokenError(f"a tensor of {n_dims} dimensions")
        shape = self.take(f"{n_dims}Q")
        return Tensor(name, shape, *self.take("IQ"))
