"""The arrays and settings of a dictionary's files, read without trust: headers first, no pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patching.tensors import TensorFileError, read_header, read_tensors
from tasks.errors import FormatError
from tasks.json_text import parse_json
from tasks.limits import MAX_TOML

MOST_VALUES = 4_000_000_000
"""Numbers in one dictionary: a million latents of width 2,048, encoder and decoder."""
MOST_ZIPPED = 200
"""By how much an array may shrink when it is zipped; more is a bomb."""
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Arrays:
    """Named arrays of one file, in float32 unless they are float64."""

    path: Path
    values: Mapping[str, Tensor]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def take(self, name: str, dims: int) -> Tensor:
        """One that has to be there.

        Raises:
            FormatError: it is missing, or has another number of dimensions.
        """
        value = self.maybe(name, dims)
        if value is None:
            raise FormatError(
                f"{self.path} has no array '{name}'; it has {', '.join(sorted(self.values))}"
            )
        return value

    def maybe(self, name: str, dims: int) -> Tensor | None:
        """One that may be missing.

        Raises:
            FormatError: it has another number of dimensions.
        """
        value = self.values.get(name)
        if value is not None and value.ndim != dims:
            raise FormatError(
                f"{self.path}: array '{name}' has the shape {tuple(value.shape)}; it needs {dims} "
                f"dimensions"
            )
        return value


def refuse_pickle(path: Path) -> None:
    """Refuse a file that only unpickling would open, which can run code.

    Raises:
        FormatError: see above.
    """
    if path.suffix in PICKLES:
        raise FormatError(
            f"{path} is a pickle, which can run code when it is opened, so circuits never does; "
            f"open it where you trust it and save its arrays as safetensors"
        )


def read_arrays(path: Path, what: str) -> Arrays:
    """All arrays of a safetensors file.

    Raises:
        FormatError: it is none, is not complete, is too large, or holds something else than
            floating-point numbers.
    """
    try:
        header = read_header(path)
    except TensorFileError as fault:
        raise FormatError(f"{path} is not {what}: it {fault}") from None
    check_size(path, sum(_product(each.shape) for each in header.tensors.values()))
    odd = [name for name, each in header.tensors.items() if each.dtype not in FLOATS]
    if odd:
        raise FormatError(f"{path} is not {what}: array '{odd[0]}' does not hold real numbers")
    return Arrays(path, {k: _real(v) for k, v in read_tensors(path, "pt", what).items()})


def read_npz(path: Path, what: str) -> Arrays:
    """All arrays of a zipped numpy archive, unzipped no further than their headers allow.

    Raises:
        FormatError: as in :func:`read_arrays`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.file_size > MOST_ZIPPED * max(entry.compress_size, 1):
                    raise FormatError(f"{path} is not {what}: '{entry.filename}' is a zip bomb")
            check_size(path, sum(entry.file_size for entry in archive.infolist()) // 4)
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise FormatError(f"{path} is not {what}: {error}") from None
    except (zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise FormatError(f"{path} is not {what}: {error}") from None
    odd = [name for name, value in arrays.items() if value.dtype.kind != "f"]
    if odd:
        raise FormatError(f"{path} is not {what}: array '{odd[0]}' does not hold real numbers")
    return Arrays(path, {name: _real(torch.from_numpy(v)) for name, v in arrays.items()})


def read_settings(path: Path, what: str) -> dict[str, Any]:
    """The object in a small JSON file.

    Raises:
        FormatError: it cannot be read, or is too large, or holds something else.
    """
    try:
        if path.stat().st_size > MAX_TOML:
            raise FormatError(f"{path} is not {what}: it is larger than {MAX_TOML:,} bytes")
        found = parse_json(path.read_bytes().decode(), allow_nan=True)
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise FormatError(f"{path} is not {what}: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise FormatError(f"{path} is not {what}: it holds no object")
    return found


def digest(*paths: Path) -> str:
    """SHA-256 over the bytes of some files."""
    total = sha256()
    for path in paths:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                total.update(part)
    return total.hexdigest()


def check_size(path: Path, values: int) -> None:
    """Refuse more numbers than any dictionary has.

    Raises:
        FormatError: see above.
    """
    if values > MOST_VALUES:
        raise FormatError(f"{path} holds {values:,} numbers; at most {MOST_VALUES:,} are read")


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _real(value: Tensor) -> Tensor:
    return value if value.dtype == torch.float64 else value.float()
