"""Neurons and heads scored by what they write along a label's direction, at one token.

Both scores come from values captured in one forward pass. A neuron's is its activation times the
direction seen through the output weights; a head's is what the read-out of its own layer loses
when the head is silenced, which needs no second run, since within a layer nothing but the sum of
head outputs changes (Wang et al. 2025, arXiv 2510.11328, sections on local components).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from patching.blocks import Block
from patching.capture import Capture, Prompts
from patching.model import Model
from patching.norms import Norm
from patching.sweep import Sweep
from tasks.errors import MethodError

if TYPE_CHECKING:
    from circuits.directions import Directions, Groups


@dataclass(frozen=True)
class Parts:
    """Mean scores over the prompts of each label, with their standard errors.

    neurons   ``g * (W_down^T v)``, v the direction after the MLP ``[labels, layers, d_mlp]``
    heads     loss of the read-out along v after attention ``[labels, layers, heads]``
    """

    neurons: Float[np.ndarray, "labels layers d_mlp"]
    neuron_errors: Float[np.ndarray, "labels layers d_mlp"]
    heads: Float[np.ndarray, "labels layers heads"]
    head_errors: Float[np.ndarray, "labels layers heads"]


def find_parts(
    model: Model,
    captured: Capture,
    groups: Groups,
    directions: Directions,
    after_norm: bool = False,
) -> Parts:
    """Scores of all neurons and heads for every label, over the prompts that ask for it."""
    columns: list[list[Float[np.ndarray, "..."]]] = [[], [], [], []]
    for number in range(len(groups.labels)):
        part = captured[groups.rows[:, number]]
        mid, post = (_tensor(model, directions.at(k)[number]) for k in ("resid_mid", "resid_post"))
        scores = neuron_scores(model, part, post), head_scores(model, part, mid, after_norm)
        for place, values in enumerate(scores):
            spread = values.std(0) / max(len(values) - 1, 1) ** 0.5
            columns[2 * place].append(values.mean(0).double().cpu().numpy())
            columns[2 * place + 1].append(spread.double().cpu().numpy())
    return Parts(*map(np.stack, columns))


def _tensor(model: Model, values: Float[np.ndarray, "..."]) -> Tensor:
    return torch.tensor(values, dtype=model.dtype, device=model.device)


@torch.no_grad()
def neuron_scores(
    model: Model, captured: Capture, vectors: Float[Tensor, "l d"]
) -> Float[Tensor, "n l m"]:
    """What each neuron writes along its layer's vector, for every prompt.

    Under a post-norm the neuron's share is taken with the scale that the norm has in that run.
    """
    layers = []
    for block, vector in zip(model.blocks, vectors, strict=True):
        g = captured.mlp_post[:, block.layer]
        weight, norm = block.W_out, block.ln2_post
        if norm is None:
            layers.append(g * (weight @ vector))
        else:
            seen = norm.centre_vjp(vector * norm.weight)
            layers.append(
                g * (weight @ seen.to(weight.dtype)) / norm.scale(block.neurons_output(g))
            )
    return torch.stack(layers, dim=1)


@torch.no_grad()
def head_scores(
    model: Model, captured: Capture, vectors: Float[Tensor, "l d"], after_norm: bool = False
) -> Float[Tensor, "n l h"]:
    """``s - s(without head)`` for every head and prompt, ``s = <stream after attention, v>``.

    With ``after_norm``, ``s`` is read after the norm that stands before the MLP. Equal to really
    silencing one head after the other, from the one run that was captured.

    Raises:
        MethodError: ``after_norm`` where the MLP does not read what attention writes.
    """
    _check_norm(model, after_norm)
    layers = []
    for block, vector in zip(model.blocks, vectors, strict=True):
        z, mid = captured.z[:, block.layer], captured.resid_mid[:, block.layer]
        if block.ln1_post is None and not after_norm:
            layers.append(torch.einsum("nhe,he->nh", z, block.W_O.to(z.dtype) @ vector))
            continue
        writes = torch.einsum("nhe,hed->nhd", z, block.W_O.to(z.dtype))
        without = _without(block, z, mid, writes)
        read = block.ln2 if after_norm else _as_it_is
        layers.append((read(mid) @ vector)[:, None] - read(without) @ vector)
    return torch.stack(layers, dim=1)


def norm_fault(model: Model) -> str | None:
    """Why this model's heads cannot be read after the norm, or None."""
    if not model.anatomy.parallel:
        return None
    return (
        f"in {model.anatomy.family} the MLP reads the stream before attention has written to it, "
        f"so a head of the same layer cannot change what it reads; read before the norm"
    )


def _check_norm(model: Model, after_norm: bool) -> None:
    if after_norm and (fault := norm_fault(model)):
        raise MethodError(fault)


def _without(
    block: Block,
    z: Float[Tensor, "n h e"],
    mid: Float[Tensor, "n d"],
    writes: Float[Tensor, "n h d"],
) -> Float[Tensor, "n h d"]:
    """The stream after attention, without one head at a time."""
    if block.ln1_post is None:
        return mid[:, None] - writes
    raw = block.attention_output(z)
    rest: Norm = block.ln1_post
    return (mid - rest(raw))[:, None] + rest(raw[:, None] - writes)


def _as_it_is(x: Tensor) -> Tensor:
    return x


@torch.no_grad()
def ablated_head_scores(
    model: Model,
    prompts: Prompts,
    vectors: Float[Tensor, "l d"],
    after_norm: bool = False,
    batch_size: int = 64,
) -> Float[Tensor, "n l h"]:
    """The same scores by definition: one whole run without silencing and one for every head."""
    _check_norm(model, after_norm)
    a = model.anatomy

    def work(tokens: Tensor, mask: Tensor) -> Float[Tensor, "b l h"]:
        scores = torch.empty(len(tokens), a.n_layers, a.n_heads, device=model.device)
        whole = _Reads(model, vectors, after_norm)
        model.run(tokens, mask, whole)
        for layer in range(a.n_layers):
            for head in range(a.n_heads):
                cut = _Reads(model, vectors, after_norm, (layer, head))
                model.run(tokens, mask, cut)
                scores[:, layer, head] = whole.scores[layer] - cut.scores[layer]
        return scores

    return torch.cat([*prompts.sweep(model, work, Sweep(batch_size))])


class _Reads:
    """A tap that reads every layer along its vector, with one head silenced."""

    def __init__(
        self,
        model: Model,
        vectors: Float[Tensor, "l d"],
        after_norm: bool,
        silent: tuple[int, int] | None = None,
    ) -> None:
        self.blocks, self.vectors, self.silent = model.blocks, vectors, silent
        self.after_norm, self.parallel = after_norm, model.anatomy.parallel
        self.scores: dict[int, Float[Tensor, " b"]] = {}
        self.before: Tensor | None = None

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        if kind == "z" and self.silent is not None and self.silent[0] == layer:
            value = value.clone()
            value[:, :, self.silent[1]] = 0
        if kind == "resid_pre":
            self.before = value
        if kind == ("attn_out" if self.parallel else "resid_mid"):
            assert self.before is not None
            stream = self.before[:, -1] + value[:, -1] if self.parallel else value[:, -1]
            read: Callable[[Tensor], Tensor] = _as_it_is
            if self.after_norm:
                read = self.blocks[layer].ln2
            self.scores[layer] = read(stream) @ self.vectors[layer]
        return value
