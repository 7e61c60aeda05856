"""A model opened for circuit work.

:class:`Model` takes a transformers model apart once (:mod:`patching.families`) and computes with
those parts. At opening the result is compared with the model's own forward pass
(:mod:`patching.check`), so a model that computes anything else than what these parts say is refused
rather than silently approximated.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from patching.anatomy import Anatomy
from patching.blocks import Block
from patching.families import known
from patching.families.refusals import check_family
from patching.families.take_apart import Parts, take_apart
from patching.forward import Tap, no_tap, run_block
from patching.frame import Frame, make_frame
from patching.in_use import InUse
from patching.loading import check_device, digest, load_tokenizer, load_weights, stored_dtype
from patching.norms import Norm
from patching.ops import PLAIN, Ops
from tasks.errors import ModelError

FORKED = (
    "this process was forked from one that has opened the model, and torch has several threads: it "
    "may hang; start processes with 'spawn', or call torch.set_num_threads(1) before forking"
)


class Model:
    """A decoder-only transformer taken apart into heads, MLPs and the residual stream.

    Attributes:
        anatomy: layer and head counts, widths.
        tokenizer: the model's tokenizer, or None.
        path: the directory, file, hub id or name it was opened from; ``"in memory"`` otherwise.
        patience: seconds to wait where another thread edits or uses the weights; 0 refuses at once.
        hf: the transformers model, whose weights are the ones in use.
        source_dtype: the number type of the weights where they came from.

    >>> model.anatomy.n_layers, model.anatomy.n_heads
    (4, 4)
    """

    def __init__(
        self, hf: Any, *, tokenizer: Any = None, path: str = "in memory", digest: str = ""
    ) -> None:
        self.hf = hf
        self.tokenizer = tokenizer
        self.path = path
        self.patience = 0.0
        self._in_use = InUse()
        self._process = os.getpid()
        self.source_dtype: torch.dtype = hf.dtype
        self.parts: Parts = take_apart(hf, known()[hf.config.model_type](hf.config))
        self.anatomy: Anatomy = self.parts.anatomy
        self.final_norm: Norm = self.parts.final_norm
        self._hash = digest, self._edition()

    @classmethod
    def open(
        cls,
        source: str | Path | nn.Module,
        *,
        tokenizer: Any = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> Model:
        """Open a hub id, a directory, a GGUF file, a named model, or a model in memory.

        A model in memory is copied first. ``device`` is where to compute, such as ``cuda``; without
        it a model in memory stays where it is, and one that is loaded is on the CPU. ``dtype`` is
        the number type to compute in; without it a model in memory keeps its own, and one that is
        loaded is float32 whatever its files hold.

        Raises:
            ModelError: it cannot be found offline, or cannot be taken apart, or torch does not see
                the device.
        """
        from patching.check import check_forward, check_numbers

        place = None if device is None else check_device(device)
        if isinstance(source, nn.Module):
            if not hasattr(source, "config"):
                raise ModelError(f"a {type(source).__name__} is not a transformers model")
            check_family(source)
            hf: Any = copy.deepcopy(source)
            path, stored = "in memory", hf.dtype
            hf = hf if dtype is None else _to_dtype(hf, dtype)
        else:
            path = str(source)
            hf, stored = load_weights(path, dtype or torch.float32), stored_dtype(path)
            tokenizer = tokenizer or load_tokenizer(path)
        hf = (hf if place is None else hf.to(place)).eval().requires_grad_(False)
        check_family(hf)
        check_numbers(hf)
        model = _taken_apart(cls, hf, tokenizer=tokenizer, path=path, digest=digest(hf))
        model.source_dtype = stored or model.dtype
        check_forward(model)
        return model

    @cached_property
    def bridge(self) -> Any:
        """A TransformerLens bridge over the same weights, for hooks and all else that it offers.

        It is made when it is first asked for, since TransformerLens takes seconds to import. Its
        modules are its own, its parameters are this model's: an edit of one shows in the other,
        except where the bridge splits a fused matrix into copies.

        Raises:
            ModelError: TransformerLens knows no such architecture.
        """
        from patching.bridge import bridge_over

        return bridge_over(self.hf)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The layers; refused while another thread's edit of the weights is in force."""
        with self.reading():
            return self.parts.blocks

    @property
    def hash(self) -> str:
        """SHA-256 over configuration and weights, those of edits in force included.

        Raises:
            EditError: another thread's edit is in force.
        """
        with self.reading():
            if self._hash[1] != (edition := self._edition()):
                self._hash = digest(self.hf), edition
            return self._hash[0]

    def _edition(self) -> list[tuple[int, int]]:
        """What changes with every change of a weight in place, and with every new weight."""
        weights = self.hf.state_dict(keep_vars=True).values()
        return [(id(w), -1 if w.is_inference() else w._version) for w in weights]

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A computation with the weights, beside which no other thread edits them.

        Raises:
            EditError: another thread's edit is in force, longer than :attr:`patience`.
        """
        if os.getpid() != self._process and torch.get_num_threads() > 1:
            warnings.warn(FORKED, RuntimeWarning, stacklevel=3)
        with self._in_use.reading(self.patience):
            yield

    @contextmanager
    def editing(self, undo: Callable[[], None]) -> Iterator[None]:
        """An edit of weights that is made in the block; ``undo`` puts every bit back after it.

        Raises:
            EditError: see :meth:`patching.in_use.InUse.editing`.
        """
        value, known = self._hash[0], False

        def undone() -> None:
            undo()
            # The same bits have the same hash, but where it was out of date before the edit.
            self._hash = value, self._edition() if known else []

        with self._in_use.editing(undone, self.patience):
            value, known = self._hash[0], self._hash[1] == self._edition()
            yield

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return _weight(self.parts.tokens).device

    @property
    def dtype(self) -> torch.dtype:
        """The number type of the residual stream."""
        return _weight(self.parts.tokens).dtype

    @property
    def vocabulary_size(self) -> int:
        """How many logits the model gives."""
        return int(self.hf.get_output_embeddings().weight.shape[0])

    @property
    def unembedding(self) -> Float[Tensor, "v d"]:
        """The matrix from the normed stream to logits, before any soft-cap."""
        with self.reading():
            return self.parts.unembedding()

    @property
    def longest(self) -> int | None:
        """How many positions the model has; None where its configuration names no number."""
        names = ("max_position_embeddings", "max_seq_len")
        given = (getattr(self.hf.config, name, None) for name in names)
        return next((int(number) for number in given if number), None)

    def frame(self, mask: Bool[Tensor, "b s"]) -> Frame:
        """Positions and causal mask of a left-padded batch."""
        return make_frame(mask, self.parts.tables, self.parts.query_scale)

    def embed(self, tokens: Int[Tensor, "b s"], frame: Frame) -> Float[Tensor, "b s d"]:
        """The residual stream that enters the first block."""
        with self.reading():
            return self.parts.embed(tokens, frame.positions)

    def unembed(
        self, x: Float[Tensor, "b d"], tap: Tap = no_tap, ops: Ops = PLAIN
    ) -> Float[Tensor, "b v"]:
        """Logits from the final residual stream, at one position."""
        last, cap = self.anatomy.n_layers, self.parts.logit_cap
        with self.reading():
            x = tap("final_in", last, x)
            logits = self.parts.unembed(ops.norm(self.final_norm, x, ("final_in", last)))
            if cap is not None:
                logits = tap("logits_raw", last, logits)
                logits = ops.softcap(logits, cap, ("logits_raw", last))
            return tap("logits", last, logits)

    def run(
        self,
        tokens: Int[Tensor, "b s"],
        mask: Bool[Tensor, "b s"],
        tap: Tap = no_tap,
        ops: Ops = PLAIN,
    ) -> Float[Tensor, "b v"]:
        """Logits at the last position of every prompt, with a tap at every named point."""
        with self.reading():
            frame = self.frame(mask)
            return self.run_from(0, tap("input", 0, self.embed(tokens, frame)), frame, tap, ops)

    def run_from(
        self,
        layer: int,
        x: Float[Tensor, "b s d"],
        frame: Frame,
        tap: Tap = no_tap,
        ops: Ops = PLAIN,
    ) -> Float[Tensor, "b v"]:
        """Logits at the last position, from the residual stream that enters block ``layer``."""
        with self.reading():
            for block in self.blocks[layer:]:
                x = run_block(block, x, frame, tap, ops)
            return self.unembed(x[:, -1], tap, ops)

    def __repr__(self) -> str:
        a = self.anatomy
        kv = "" if a.n_kv_heads == a.n_heads else f" on {a.n_kv_heads} key/value heads"
        return (
            f"Model({self.path}: {a.family}, {a.n_layers} layers, {a.n_heads} heads{kv}, "
            f"d_model {a.d_model})"
        )


def _taken_apart(kind: type[Model], hf: Any, **about: Any) -> Model:
    """The opened model; a configuration that its family's description cannot read is refused."""
    try:
        return kind(hf, **about)
    except (AttributeError, TypeError, KeyError, IndexError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"this {hf.config.model_type} model ({type(hf).__name__}) is not built as others of "
            f"its family are, and cannot be taken apart into layers of attention heads and one "
            f"MLP: {error}"
        ) from error


def _weight(module: Any) -> Tensor:
    weight: Tensor = module.weight
    return weight


def _to_dtype(hf: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The weights in another number type; frequencies of rotary embeddings stay in float32."""
    kept = {
        (module, name): buffer.clone()
        for module in hf.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name.endswith("inv_freq")
    }
    hf = hf.to(dtype)
    for (module, name), buffer in kept.items():
        setattr(module, name, buffer)
    return hf
