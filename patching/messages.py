"""Results of work as bytes, from one process of a command to another: nothing is pickled.

A message is a line of JSON that says how the value is built, and the bytes of its arrays after it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

PLAIN = (bool, int, float, str, type(None))


def packed(value: Any) -> bytes:
    """A value as bytes: arrays, tensors, plain values, and lists, tuples, dictionaries of them.

    Raises:
        TypeError: it holds something else.
    """
    parts: list[bytes] = []
    built = json.dumps(_built(value, parts)).encode()
    return b"".join((len(built).to_bytes(8, "little"), built, *parts))


def unpacked(data: np.ndarray, place: Callable[[str], Any] = str) -> Any:
    """The value of a message; ``place`` says where tensors of a kind of device lie here."""
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    return _Reader(data, start, place).read(json.loads(data[8:start].tobytes()))


def _built(value: Any, parts: list[bytes]) -> Any:
    if isinstance(value, np.generic | np.ndarray) and not value.dtype.hasobject:
        array = np.asarray(value)
        parts.append(array.tobytes())
        kind = "number" if isinstance(value, np.generic) else "array"
        return {kind: array.dtype.str, "shape": array.shape}
    if isinstance(value, PLAIN):
        return {"plain": value}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return {type(value).__name__: [_built(each, parts) for each in value]}
    if isinstance(value, dict):
        return {"dict": [[_built(k, parts), _built(v, parts)] for k, v in value.items()]}
    import torch

    if isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        parts.append(flat.numpy().tobytes())
        about = str(value.dtype).removeprefix("torch."), value.device.type
        return {"tensor": about, "shape": [*value.shape], "bytes": len(parts[-1])}
    raise TypeError(f"a {type(value).__name__} cannot go from one process to another")


class _Reader:
    """Reads the bytes of arrays one after the other."""

    def __init__(self, data: np.ndarray, start: int, place: Callable[[str], Any]) -> None:
        self.data, self.at, self.place = data, start, place

    def read(self, built: dict[str, Any]) -> Any:
        """The value that was built like this."""
        ((kind, what), *rest) = built.items()
        if kind == "plain":
            return what
        if kind in ("list", "tuple"):
            read = [self.read(each) for each in what]
            return read if kind == "list" else tuple(read)
        if kind == "dict":
            return {self.read(name): self.read(value) for name, value in what}
        shape = rest[0][1]
        if kind == "tensor":
            return self._tensor(what[0], what[1], shape, rest[1][1])
        dtype = np.dtype(what)
        array = self._next(dtype.itemsize * int(np.prod(shape, dtype=int))).view(dtype)
        return array[0] if kind == "number" else array.reshape(shape)

    def _next(self, size: int) -> np.ndarray:
        self.at += size
        return self.data[self.at - size : self.at].copy()

    def _tensor(self, dtype: str, device: str, shape: list[int], size: int) -> Any:
        import torch

        number = getattr(torch, dtype)
        data = torch.from_numpy(self._next(size))
        # An empty tensor of bytes cannot be seen as one of larger numbers.
        whole = data.view(number) if size else torch.empty(0, dtype=number)
        return whole.reshape(shape).to(self.place(device))
