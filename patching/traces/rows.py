"""Rows of an attribution graph: direct effects on some targets, one backward pass for many.

1. One forward pass of ``B`` copies of the prompt through the linear model, in which the embedding
   and every place that is taken apart (in an attribution graph every MLP's output) are leaves.
2. For ``B`` targets at a time: copy ``i`` gets target ``i``'s encoder column, carried to the point
   that the encoder reads, as its gradient there; one backward pass gives the gradients at all
   leaves; every source's direct effect is its vector times the gradient where it writes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from patching.dictionaries.readings import like_point, point_of
from patching.forward import run_block
from patching.norms import precise
from patching.ops import Point, substitute
from patching.traces.nodes import ERROR, LATENT, LOGIT, TOKEN, Nodes
from patching.traces.replaced import Replaced, encoder_columns

EMBEDDING = -1


@dataclass(frozen=True)
class Place:
    """Sources of one layer: their vectors by position, padded, and where each belongs."""

    vectors: Float[Tensor, "s k d"]
    positions: Int[Tensor, " n"]
    slots: Int[Tensor, " n"]
    columns: slice

    def effects(self, g: Float[Tensor, "b s d"]) -> Float[Tensor, "b n"]:
        """Every source's vector times the gradient at its position."""
        products = torch.bmm(g.transpose(0, 1), self.vectors.transpose(1, 2))
        return products[self.positions, :, self.slots].T


class Rows:
    """Direct effects on targets of one replacement model."""

    def __init__(self, replaced: Replaced, nodes: Nodes, batch_size: int = 32) -> None:
        self.replaced, self.nodes, self.batch_size = replaced, nodes, batch_size
        self.places = {layer: self._place(layer) for layer in self._layers()}
        layers = replaced.parts.layers
        self._cuts = {point_of(each.place): i for i, each in enumerate(layers)}
        self._reads = {point_of(e.dictionary.reads) for e in layers if e.dictionary is not None}
        self._leaves: dict[int, Tensor] = {}
        self._points: dict[Point, Tensor] = {}
        self._run()

    def _layers(self) -> list[int]:
        return sorted(set(self.nodes.layer[: self.nodes.n_sources].tolist()))

    def _place(self, layer: int) -> Place:
        """The sources of a layer, tokens at -1."""
        numbers = np.flatnonzero((self.nodes.layer == layer) & ~self.nodes.of(LOGIT))
        some = self.nodes[numbers]
        slots = np.zeros(len(numbers), dtype=np.int64)
        for at in range(self.replaced.length):
            here = some.position == at
            slots[here] = np.arange(int(here.sum()))
        vectors = self._vectors(some, layer)
        width = int(slots.max(initial=0)) + 1
        padded = vectors.new_zeros(self.replaced.length, width, vectors.shape[1])
        positions, slot = (
            torch.as_tensor(x, device=vectors.device) for x in (some.position, slots)
        )
        padded[positions, slot] = vectors
        return Place(padded, positions, slot, slice(int(numbers[0]), int(numbers[-1]) + 1))

    def _vectors(self, some: Nodes, layer: int) -> Float[Tensor, "n d"]:
        """What the sources of a layer write: tokens, or errors and latents."""
        parts = self.replaced.parts
        at = torch.as_tensor(some.position, device=parts.tokens.device)
        if layer == EMBEDDING:
            assert (some.kind == TOKEN).all()
            return parts.tokens[at]
        here = parts.layers[layer]
        vectors = here.error[at].clone()
        latents = torch.as_tensor(some.kind == LATENT, device=at.device)
        assert (some.kind[some.kind != LATENT] == ERROR).all()
        if bool(latents.any()):
            assert here.dictionary is not None
            assert here.amounts is not None
            unit = torch.as_tensor(some.unit, device=at.device)[latents]
            amounts = here.amounts[at[latents], unit]
            vectors[latents] = amounts[:, None] * here.dictionary.W_dec[unit]
        return vectors

    def _run(self) -> None:
        """The forward pass of many copies, with its graph."""
        model, values, rows = self.replaced.model, self.replaced.clean.values, self.batch_size
        ops = self.replaced.many(rows)
        ids = self.replaced.ids.expand(rows, -1)
        mask = torch.ones_like(ids, dtype=torch.bool)

        def tap(kind: str, layer: int, value: Tensor) -> Tensor:
            point = (kind, layer)
            if point in self._reads:
                self._points[point] = value
            if point not in self._cuts:
                return value
            return self._leaf(self._cuts[point], values[point].expand_as(value))

        with model.reading(), torch.enable_grad():
            frame = model.frame(mask)
            x = tap("input", 0, self._new_leaf(EMBEDDING, model.embed(ids, frame)))
            for block in model.blocks:
                x = run_block(block, x, frame, tap, ops)
            self._points["final_in", len(model.blocks)] = x[:, -1]

    def _new_leaf(self, layer: int, value: Tensor) -> Tensor:
        self._leaves[layer] = value.detach().requires_grad_()
        return self._leaves[layer]

    def _leaf(self, layer: int, value: Tensor) -> Tensor:
        """A place as a leaf; a skip connection leads past it to what the encoder reads."""
        leaf = self._new_leaf(layer, value)
        dictionary = self.replaced.parts.layers[layer].dictionary
        if dictionary is None or dictionary.skip is None:
            return leaf
        back, skip = self.replaced.reading(dictionary.reads), dictionary.skip
        read = self._points[point_of(dictionary.reads)]
        nothing = torch.zeros_like(value)
        return leaf + substitute(nothing, lambda g: (back(precise(g) @ skip).to(read.dtype),), read)

    def of(self, targets: Int[np.ndarray, " t"]) -> Float[np.ndarray, "t s"]:
        """Direct effects of all sources on some targets, in float32 (or the model's float64)."""
        found = []
        for start in range(0, len(targets), self.batch_size):
            found.append(self._batch(targets[start : start + self.batch_size]))
        return np.concatenate(found)

    def _batch(self, targets: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b s"]:
        some = self.nodes[targets]
        outputs, gradients = [], []
        for layer in sorted(set(some.layer.tolist())):
            point, g = self._at_point(some, layer)
            if self._points[point].requires_grad:
                outputs.append(self._points[point])
                gradients.append(g.to(self._points[point].dtype))
        leaves = list(self._leaves.values())
        grads = torch.autograd.grad(
            outputs, leaves, gradients, retain_graph=True, allow_unused=True
        )
        rows = np.zeros((len(targets), self.nodes.n_sources), dtype=self._dtype)
        for layer, g in zip(self._leaves, grads, strict=True):
            if g is not None and layer in self.places:
                place = self.places[layer]
                g = g.flatten(2) if g.ndim == 4 else g
                effects = place.effects(precise(g[: len(targets)]))
                rows[:, place.columns] = effects.cpu().numpy()
        return rows

    @property
    def _dtype(self) -> type[np.floating]:
        return np.float64 if self.replaced.model.dtype == torch.float64 else np.float32

    def _at_point(self, some: Nodes, layer: int) -> tuple[Point, Tensor]:
        """The gradient of every copy's target of a layer, at the point that is read there."""
        rows = np.flatnonzero(some.layer == layer)
        units = torch.as_tensor(some.unit[rows], device=self.replaced.ids.device)
        number = torch.as_tensor(rows, device=units.device)
        model, parts = self.replaced.model, self.replaced.parts
        if layer == len(parts.layers):
            point: Point = ("final_in", len(model.blocks))
            at_norm = self.replaced.unembedding(units)
            values = self.replaced.clean.values[point]
            back = self.replaced.ops.norm_vjp(model.final_norm, values, point)
            g = at_norm.new_zeros(self.batch_size, at_norm.shape[1])
            g[number] = back(at_norm)
            return point, g
        dictionary = parts.layers[layer].dictionary
        assert dictionary is not None
        columns = encoder_columns(dictionary, units)
        at = torch.as_tensor(some.position[rows], device=units.device)
        g = columns.new_zeros(self.batch_size, self.replaced.length, columns.shape[1])
        g[number, at] = columns
        g = self.replaced.reading(dictionary.reads)(g)
        return point_of(dictionary.reads), like_point(dictionary.reads, g, model.anatomy.n_heads)
