"""Mean activations, kept with what they are means of, and refused for anything else.

A mean is distinguished by nothing (``all``), by position within prompts of one length
(``position``), or by position and token (``token``). :mod:`patching.ablation.estimates` makes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.model import Model
from patching.ops import Point
from patching.tensors import Described, read_described, read_tensors, type_faults
from tasks.atomic import write_atomically
from tasks.errors import FormatError, MethodError, all_faults
from tasks.pairs import PromptPairs

SCHEMA_VERSION = 1
BY = ("all", "position", "token")
SOURCES = ("prompts", "conditional")
WHAT = "a file of means"
COUNTED = ("I64", "F64")
MEANS = ("F32", "F64")
KINDS = (
    *((name, str) for name in ("by", "model_hash", "task", "prompts", "source")),
    *(("n", int), ("lengths", list)),
)

Keys = Int[np.ndarray, "*tokens 3"]


@dataclass(frozen=True)
class Origin:
    """What means were computed from; they are refused for anything else.

    ``prompts`` is the SHA-256 of the prompts, ``n`` their number, ``lengths`` their numbers of
    real tokens. ``source`` is ``prompts`` (every token of every prompt counts) or ``conditional``
    (prompts drawn for one position each, which alone counts).
    """

    model_hash: str
    task: str
    prompts: str
    n: int
    lengths: tuple[int, ...]
    source: str = "prompts"


@dataclass(frozen=True)
class MeanActivations:
    """Mean activations of some points.

    ``keys[i]`` is (length, position, token), -1 where means are not distinguished by it; ``counts``
    is how many tokens each mean is over; ``values[point]`` is ``[keys, *unit]``.
    """

    by: str
    keys: Int[np.ndarray, "k 3"]
    counts: Int[np.ndarray, " k"]
    values: Mapping[Point, Float[Tensor, " k *unit"]]
    origin: Origin

    @cached_property
    def _row(self) -> dict[tuple[int, ...], int]:
        return {tuple(key): row for row, key in enumerate(self.keys.tolist())}

    def at(
        self, point: Point, tokens: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"]
    ) -> Float[Tensor, "b s *unit"]:
        """The mean that belongs to every token of a batch.

        Raises:
            MethodError: a token has no mean here, or the point has none.
        """
        if point not in self.values:
            raise MethodError(f"these means hold no {point[0]}.{point[1]}")
        table = self.values[point].to(tokens.device)
        if self.by == "all":
            return table[:1][None]
        return table[self.rows(tokens, mask)]

    def rows(self, tokens: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"]) -> Int[Tensor, "b s"]:
        """The row of every token's mean; padding gets the first row, which nothing reads.

        Raises:
            MethodError: listing tokens that have no mean here.
        """
        real = mask.cpu().numpy()
        keys = token_keys(tokens.cpu().numpy(), real, self.by)
        wanted, which = np.unique(keys[real], axis=0, return_inverse=True)
        at = [self._row.get(tuple(key), -1) for key in wanted.tolist()]
        missing = [key for key, row in zip(wanted.tolist(), at, strict=True) if row < 0]
        if missing:
            lines = [f"token {t} at position {p} of prompts of {n} tokens" for n, p, t in missing]
            raise MethodError(all_faults("these means have no value for:", lines, shown=5))
        rows = np.zeros(real.shape, dtype=np.int64)
        rows[real] = np.array(at, dtype=np.int64)[which.reshape(-1)]
        return torch.as_tensor(rows, device=tokens.device)

    def check(self, model: Model, pairs: PromptPairs, points: Iterable[Point] = ()) -> None:
        """Refuse prompts or a model that these means are not of.

        Raises:
            MethodError: listing everything that does not fit.
        """
        origin, lengths = self.origin, set(pairs.mask.sum(1).tolist())
        faults = []
        if origin.model_hash != model.hash:
            faults.append(
                f"they are of another model (hash {origin.model_hash[:12]}, here {model.hash[:12]})"
            )
        if origin.task != pairs.task:
            faults.append(f"they are of task '{origin.task}', these prompts of '{pairs.task}'")
        if others := sorted(lengths - set(origin.lengths)):
            faults.append(
                f"they are of prompts of {listed(origin.lengths)} tokens, "
                f"these have {listed(others)}"
            )
        absent = [f"{kind}.{layer}" for kind, layer in points if (kind, layer) not in self.values]
        if absent:
            faults.append(f"they hold no {listed(absent)}")
        if faults:
            raise MethodError(all_faults("these means cannot be used here:", faults))

    def thin(self, least: int) -> int:
        """How many means are over fewer than ``least`` samples."""
        return int((self.counts < least).sum())

    def save(self, path: str | Path) -> None:
        """Write a safetensors file whose header says what the means are of; replaces ``path``."""
        from safetensors.torch import save

        arrays = {f"{kind}.{layer}": v.contiguous() for (kind, layer), v in self.values.items()}
        arrays |= {"keys": torch.as_tensor(self.keys), "counts": torch.as_tensor(self.counts)}
        about = {"schema_version": SCHEMA_VERSION, "by": self.by, **vars(self.origin)}
        header = {"means": json.dumps(about, sort_keys=True)}
        # Written by us, so that it is as open to others as any file.
        write_atomically(path, save(arrays, metadata=header))

    @classmethod
    def load(cls, path: str | Path) -> MeanActivations:
        """Read what :meth:`save` wrote.

        Raises:
            FormatError: not such a file, or written by a newer version.
        """
        about, header = read_described(Path(path), "means", WHAT, SCHEMA_VERSION)
        if faults := [*type_faults(about, KINDS), *_faults(about, header.tensors)]:
            raise FormatError(f"{path} is not {WHAT}: {'; '.join(faults)}")
        arrays, by = read_tensors(Path(path), "pt", WHAT), about.pop("by")
        keys, counts = (arrays.pop(name).numpy() for name in ("keys", "counts"))
        points = {point: arrays[name] for name in arrays if (point := _point(name))}
        origin = Origin(**about | {"lengths": tuple(about["lengths"])})
        return cls(by, keys, counts, points, origin)

    def __repr__(self) -> str:
        o = self.origin
        return f"Means(by {self.by}: {len(self.keys)} keys, {o.n} prompts of {o.task or 'no task'})"


def token_keys(tokens: Int[np.ndarray, "n s"], mask: Bool[np.ndarray, "n s"], by: str) -> Keys:
    """(length, position, token) of every token, positions counted from the first real one."""
    keys = np.full((*tokens.shape, 3), -1, dtype=np.int64)
    if by != "all":
        keys[..., 0] = mask.sum(1, keepdims=True)
        keys[..., 1] = mask.cumsum(1) - 1
    if by == "token":
        keys[..., 2] = tokens
    return keys


def _faults(about: Mapping[str, Any], tensors: Mapping[str, Described]) -> Iterator[str]:
    """What is wrong with a file, as far as its header tells."""
    if unknown := sorted(set(about) - {name for name, _ in KINDS}):
        yield f"it has {unknown[0][:40]!r}, which no means have"
    for name, allowed in (("by", BY), ("source", SOURCES)):
        if about.get(name) not in allowed:
            yield f"its {name} is none of {', '.join(allowed)}"
    lengths = about.get("lengths")
    if not isinstance(lengths, list) or not all(type(length) is int for length in lengths):
        yield "its lengths are no list of numbers"
    if lacking := [name for name in ("keys", "counts") if name not in tensors]:
        yield f"it holds no {' and no '.join(lacking)}"
        return
    keys, counts = tensors["keys"], tensors["counts"]
    count = keys.shape[0] if len(keys.shape) == 2 else 0
    if keys != Described("I64", (count, 3)) or not count:
        yield f"its keys are {keys.dtype} of shape {list(keys.shape)}, not I64 of [k, 3]"
    if counts.dtype not in COUNTED or counts.shape != (count,):
        yield f"its counts are {counts.dtype} of shape {list(counts.shape)}, for {count} keys"
    for name, tensor in tensors.items():
        if name in ("keys", "counts"):
            continue
        if _point(name) is None:
            yield f"it holds {name[:40]!r}, which is no kind of point and layer"
        elif tensor.dtype not in MEANS or tensor.shape[:1] != (count,):
            yield f"its {name} is {tensor.dtype} of shape {list(tensor.shape)}, for {count} keys"


def _point(name: str) -> Point | None:
    """The point that a tensor's name stands for; None where it is none."""
    match = re.fullmatch(r"([a-z_]+)\.(\d{1,6})", name)
    return (match[1], int(match[2])) if match else None


def listed(values: Iterable[object]) -> str:
    """Values in a row, for messages."""
    return ", ".join(map(str, values))
