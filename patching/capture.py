"""What a model holds at one token of each prompt: the stream twice per layer, neurons, heads.

One forward pass per batch; of every value only the row of the chosen token is kept, so memory
grows with prompts and layers, never with positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.forward import Tap, chain, run_block, run_block_end
from patching.in_use import undisturbed
from patching.model import Model
from patching.sweep import Sweep, shards
from patching.weights import check_neurons
from tasks.errors import MethodError, TaskError

T = TypeVar("T")

KINDS = ("resid_mid", "resid_post", "mlp_post", "z")
"""The points read: stream after attention and after the MLP, ``down`` input, ``W_O`` input."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Left-padded prompts: ``tokens`` ids, ``mask`` True on real tokens."""

    tokens: Int[np.ndarray, "n s"]
    mask: Bool[np.ndarray, "n s"]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], pad: int = 0) -> Prompts:
        """Prompts given as token ids, padded on the left to the longest.

        Raises:
            TaskError: naming the prompts that have no token at all, or that there is no prompt.
        """
        empty = [number for number, row in enumerate(rows) if not len(row)]
        if not rows or empty:
            fault = f"prompts {', '.join(map(str, empty[:5]))} are empty" if empty else "no prompts"
            raise TaskError(f"{fault}; every prompt needs at least one token")
        width = max(map(len, rows))
        tokens = np.full((len(rows), width), pad, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=bool)
        for number, row in enumerate(rows):
            tokens[number, width - len(row) :] = row
            mask[number, width - len(row) :] = True
        return cls(tokens, mask)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> Prompts:
        """Some of the prompts, without the columns that are padding in all of them."""
        tokens, mask = self.tokens[index], self.mask[index]
        start = int(mask.any(0).argmax()) if len(mask) else 0
        return Prompts(tokens[:, start:], mask[:, start:])

    def sweep(
        self, model: Model, work: Callable[[Tensor, Tensor], T], options: Sweep, steps: int = 1
    ) -> Iterator[T]:
        """What ``work`` makes of the tokens and the mask of some prompts after the others."""

        def of_rows(rows: slice) -> T:
            part = self[rows]
            tokens, mask = (torch.tensor(x, device=model.device) for x in (part.tokens, part.mask))
            return work(tokens, mask)

        return shards(len(self), of_rows, options, steps)

    def check(self, model: Model) -> None:
        """Refuse prompts that this model cannot read.

        Raises:
            TaskError: an id outside the vocabulary, or more tokens than the model has positions.
        """
        largest = int(self.tokens.max())
        if largest >= model.vocabulary_size:
            raise TaskError(
                f"token id {largest} is outside this model's vocabulary of "
                f"{model.vocabulary_size}; encode the prompts with this model's own tokenizer"
            )
        width = int(self.mask.sum(1).max())
        if model.longest is not None and width > model.longest:
            raise TaskError(f"a prompt of {width} tokens does not fit {model.longest} positions")


@dataclass(frozen=True, slots=True)
class Capture:
    """Values at one token of ``n`` prompts, for every layer.

    resid_mid   the stream after attention, before its norm ``[n, layers, d]``; where attention
                and MLP are parallel nothing reads it, and it is ``resid_pre + attn_out``
    resid_post  the stream after the MLP ``[n, layers, d]``
    mlp_post    neurons, the input of the MLP's output projection ``[n, layers, d_mlp]``
    z           head outputs, the input of ``W_O`` ``[n, layers, heads, d_head]``
    """

    resid_mid: Float[Tensor, "n l d"]
    resid_post: Float[Tensor, "n l d"]
    mlp_post: Float[Tensor, "n l m"]
    z: Float[Tensor, "n l h e"]

    def __len__(self) -> int:
        return len(self.resid_mid)

    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> Capture:
        """The values of some prompts."""
        return Capture(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @classmethod
    def joined(cls, parts: Iterable[Capture]) -> Capture:
        """The values of several captures after one another."""
        batches = list(parts)
        return cls(
            **{f.name: torch.cat([getattr(part, f.name) for part in batches]) for f in fields(cls)}
        )


@dataclass(slots=True)
class _Reader:
    """A tap that keeps some rows of every value it is interested in: ``[b, ...]``, or of several
    columns ``[b, k, ...]``; by default the last.
    """

    columns: Int[Tensor, "b *k"] | None
    parallel: bool
    kinds: Sequence[str] = KINDS
    kept: dict[str, list[Tensor]] = field(default_factory=dict)
    before: Tensor | None = None

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        del layer
        if self.parallel and kind == "resid_pre":
            self.before = value
        if self.parallel and kind == "attn_out":
            assert self.before is not None
            self._keep("resid_mid", self.before + value)
        elif kind in self.kinds:
            self._keep(kind, value)
        return value

    def wants(self, kind: str, layer: int) -> bool:
        """The kinds it keeps."""
        del layer
        return kind in self.kinds

    def _keep(self, kind: str, value: Tensor) -> None:
        if self.columns is None:
            row = value[:, -1]
        else:
            rows = torch.arange(len(value), device=value.device)
            row = value[rows.view(-1, *[1] * (self.columns.ndim - 1)), self.columns]
        # A clone: a view would keep the values of all positions alive.
        self.kept.setdefault(kind, []).append(row.clone())


@torch.no_grad()
def captures(
    model: Model,
    prompts: Prompts,
    *,
    columns: Int[np.ndarray, " n"] | None = None,
    batch_size: int | Sweep = 64,
    tap: Tap | None = None,
) -> Iterator[Capture]:
    """Values of one batch of prompts after the other, each from one forward pass.

    ``columns`` says at which column of ``prompts.tokens`` to read each prompt (default: the last).
    ``tap`` changes the run before it is read.

    Raises:
        ModelError: the model's MLPs are mixtures of experts.
        TaskError: the model cannot read the prompts.
        MethodError: columns that are padding or outside the prompts.
    """
    check_neurons(model, "a capture")
    prompts.check(model)
    if columns is not None and columns.shape != (len(prompts),):
        raise MethodError(
            f"columns have shape {columns.shape}; give one column for each of {len(prompts)}"
        )
    for kept in _read(model, prompts, KINDS, columns, Sweep.of(batch_size), tap):
        yield Capture(**kept)


def capture(
    model: Model,
    prompts: Prompts,
    *,
    columns: Int[np.ndarray, " n"] | None = None,
    batch_size: int | Sweep = 64,
    tap: Tap | None = None,
) -> Capture:
    """Values of all prompts at once; see :func:`captures`."""
    parts = captures(model, prompts, columns=columns, batch_size=batch_size, tap=tap)
    return Capture.joined(parts)


@torch.no_grad()
def streams(
    model: Model, prompts: Prompts, columns: Int[np.ndarray, "n k"], batch_size: int | Sweep = 64
) -> Float[Tensor, "n k p d"]:
    """The residual stream at several columns of every prompt, from one forward pass.

    Points are in order of computation: ``resid_mid.0 resid_post.0 resid_mid.1 ...``

    Raises:
        TaskError: the model cannot read the prompts.
        MethodError: columns that are padding or outside the prompts.
    """
    prompts.check(model)
    if columns.ndim != 2 or len(columns) != len(prompts):
        raise MethodError(
            f"columns have shape {columns.shape}; give a row of columns for each of {len(prompts)}"
        )
    kinds = ("resid_mid", "resid_post")
    parts = _read(model, prompts, kinds, columns, Sweep.of(batch_size), None)
    # Layers are the second axis; behind the columns, their two points follow one another.
    stacked = [torch.stack([kept[kind] for kind in kinds], dim=2) for kept in parts]
    return torch.cat(stacked).flatten(1, 2).movedim(2, 1)


def _read(
    model: Model,
    prompts: Prompts,
    kinds: Sequence[str],
    columns: Int[np.ndarray, "n *k"] | None,
    options: Sweep,
    tap: Tap | None,
) -> Iterator[dict[str, Float[Tensor, "b l *s"]]]:
    """The rows of some kinds of points, batch by batch, with layers as their second axis."""
    if columns is not None:
        _check_columns(prompts, columns)

    def of_rows(rows: slice) -> dict[str, Float[Tensor, "b l *s"]]:
        part, at = prompts[rows], None
        if columns is not None:
            dropped = prompts.tokens.shape[1] - part.tokens.shape[1]
            at = torch.tensor(columns[rows] - dropped, device=model.device)
        reader = _Reader(at, model.anatomy.parallel, kinds)
        tokens, mask = (torch.tensor(x, device=model.device) for x in (part.tokens, part.mask))
        if tap is None and at is None:
            _run_for_the_end(model, tokens, mask, reader)
        else:
            model.run(tokens, mask, reader if tap is None else chain(tap, reader))
        return {kind: torch.stack(reader.kept[kind], dim=1) for kind in kinds}

    return shards(len(prompts), of_rows, options)


@undisturbed
def _run_for_the_end(model: Model, tokens: Tensor, mask: Tensor, tap: Tap) -> None:
    """All that the last position's values need: of the last layer one position, and no logits."""
    frame = model.frame(mask)
    x = model.embed(tokens, frame)
    for block in model.blocks[:-1]:
        x = run_block(block, x, frame, tap)
    run_block_end(model.blocks[-1], x, frame, tap)


def _check_columns(prompts: Prompts, columns: Int[np.ndarray, "n *k"]) -> None:
    width, rows = prompts.tokens.shape[1], np.arange(len(prompts))
    inside = (columns >= 0) & (columns < width)
    rows = rows.reshape(-1, *[1] * (columns.ndim - 1))
    read = inside & prompts.mask[rows, np.clip(columns, 0, width - 1)]
    if not read.all():
        bad = np.argwhere(~read)
        raise MethodError(
            f"{len(bad)} columns are padding or outside the {width} there are, first column "
            f"{columns[tuple(bad[0])]} of prompt {bad[0][0]}; give the column of a real token"
        )
