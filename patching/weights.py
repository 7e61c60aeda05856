"""Changing live weights for the length of a block, and putting them back bit for bit.

The weights that can be changed are those that write to the residual stream: the value vectors of
an MLP (row ``n`` of its output matrix is what neuron ``n`` writes) and a head's rows of the
attention's output matrix. Both are seen as ``[in, d_model]``, however the model stores them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patching.blocks import weight_in_out
from patching.model import Model
from tasks.errors import EditError, ModelError

PARTS = ("mlp", "attention")


@dataclass(frozen=True)
class WeightChange:
    """New rows for an output matrix: ``rows`` become ``change(rows)``, ``[r, d_model]``."""

    part: str
    layer: int
    rows: slice
    change: Callable[[Float[Tensor, "r d"]], Float[Tensor, "r d"]]

    @property
    def place(self) -> tuple[str, int]:
        """Which matrix."""
        return self.part, self.layer


def output_module(model: Model, part: str, layer: int) -> nn.Module:
    """The module whose weight writes to the residual stream: of an MLP, or of the attention.

    Raises:
        EditError: the layer's MLP is a mixture of experts, which has no such matrix.
    """
    block = model.blocks[layer]
    if part == "attention":
        return block.o
    if block.down is None:
        raise EditError(
            f"m{layer} is a mixture of experts, which has no one output matrix; edit its "
            f"activation or the heads"
        )
    return block.down


def check_neurons(model: Model, what: str) -> None:
    """Refuse a model whose MLPs have no neurons of their own, for something that reads neurons.

    Raises:
        ModelError: its MLPs, or some of them, are mixtures of experts.
    """
    if model.anatomy.n_experts:
        raise ModelError(
            f"{what} needs the neurons of ordinary MLPs, and this model has mixtures of experts, "
            f"whose neurons are no parts of their own; take a model without experts"
        )


def value_vectors(model: Model, layer: int) -> Float[Tensor, "n d"]:
    """The MLP's value vectors, a live view."""
    return weight_in_out(output_module(model, "mlp", layer))


def head_rows(model: Model, head: int) -> slice:
    """Where a head's rows are in the attention's output matrix."""
    size = model.anatomy.d_head
    return slice(head * size, (head + 1) * size)


@contextmanager
@torch.no_grad()
def changed_weights(model: Model, changes: Sequence[WeightChange]) -> Iterator[None]:
    """The changes, in order, for the length of the block; afterwards every bit is as before.

    Raises:
        EditError: another thread edits or computes, or edits are closed out of order
            (:mod:`patching.in_use`).
    """
    if not changes:
        yield
        return
    saved: dict[tuple[str, int], Tensor] = {}

    @torch.no_grad()
    def undo() -> None:
        for place, value in saved.items():
            _weight(model, place).copy_(value)

    with model.editing(undo):
        for place in dict.fromkeys(change.place for change in changes):
            saved[place] = _weight(model, place).clone()
        with torch.no_grad():
            for change in changes:
                module = output_module(model, *change.place)
                rows = weight_in_out(module)[change.rows]
                rows.copy_(change.change(rows.clone()).to(rows.dtype))
        yield


def _weight(model: Model, place: tuple[str, int]) -> Tensor:
    weight = output_module(model, *place).weight
    assert isinstance(weight, Tensor)
    return weight.detach()
