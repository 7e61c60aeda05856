"""One run with its backward pass, block by block, so that no more is held than the pass needs.

1. Going forward, every block begins a graph of its own. Of a point at which a gradient is wanted
   only its place in the graph is kept, not its value.
2. Going backward, the last block first, each graph takes the gradient of what its block made to
   the wanted points and to what entered the block, and is let go.
3. ``again``: no graph is kept. A block runs a second time when the backward pass reaches it, so
   that memory is that of one block, for the time of one more forward pass.
4. Beside a run its other run may go, block by block, for derivatives that are made of both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from patching.blocks import Block
from patching.forward import Record, Tap, chain, run_block
from patching.frame import Frame
from patching.model import Model
from patching.ops import PLAIN, Ops, Point

Place = tuple[GradientEdge | None, Tensor]
"""Where a gradient is read in a graph, None where none comes; and its shape, without numbers."""


class _Places:
    """A tap that notes where the gradients at some kinds of points are read."""

    def __init__(self, kinds: frozenset[str]) -> None:
        self.kinds = kinds
        self.places: dict[Point, Place] = {}

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        if kind in self.kinds:
            edge = get_gradient_edge(value) if value.requires_grad else None
            self.places[kind, layer] = edge, value.detach().new_empty(()).expand(value.shape)
        return value

    def wants(self, kind: str, layer: int) -> bool:
        """The kinds it notes."""
        del layer
        return kind in self.kinds


@dataclass(frozen=True)
class _Piece:
    """What entered a block, what it made, and where gradients are read in between.

    ``made`` is None where the block has to run again. ``beside`` entered it in the other run.
    """

    block: Block | None
    entry: Tensor
    made: Tensor | None
    places: dict[Point, Place]
    beside: Tensor | None = None


@dataclass
class Beside:
    """The other run of the same prompts, as far as the blocks have come.

    stream  what enters the next block
    needs   kinds of points that derivatives are made of; they are there while their block runs
    keep    kinds of points that stay
    values  both, by point
    """

    stream: Float[Tensor, "b s d"]
    needs: frozenset[str]
    keep: frozenset[str]
    values: dict[Point, Tensor] = field(default_factory=dict)
    logits: Tensor | None = None

    def __post_init__(self) -> None:
        if "input" in self.keep:
            self.values["input", 0] = self.stream

    @torch.no_grad()
    def run(self, block: Block, x: Tensor, frame: Frame, kinds: Iterable[str]) -> Tensor:
        """What a block makes of a stream; the values of some kinds of its points are noted."""
        tap = Record(kinds)
        out = run_block(block, x, frame, tap)
        self.values.update(tap.values)
        return out

    @torch.no_grad()
    def finish(self, model: Model) -> None:
        """The logits, from the stream behind the last block."""
        tap = Record(self.needs | self.keep)
        self.logits = model.unembed(self.stream[:, -1], tap)
        self.values.update(tap.values)

    def forget(self, layer: int) -> None:
        """Let go of what only a block's own derivatives need."""
        gone = [p for p in self.values if p[1] == layer and p[0] not in self.keep]
        for point in gone:
            del self.values[point]


class Backward:
    """A run that keeps the values of some kinds of points, and gives gradients at others.

    ``tap`` sees every value first, and may change it. No gradient is taken before block ``first``,
    and none at what enters it unless ``entering``.
    """

    def __init__(
        self,
        model: Model,
        frame: Frame,
        tap: Tap,
        kept: Iterable[str],
        graded: Iterable[str],
        ops: Ops = PLAIN,
        beside: Beside | None = None,
        again: bool = False,
    ) -> None:
        self.model, self.frame, self.tap, self.ops = model, frame, tap, ops
        self.kept, self.graded = frozenset(kept), frozenset(graded)
        self.beside, self.again = beside, again
        self.values: dict[Point, Tensor] = {}
        self._pieces: list[_Piece] = []

    def run(
        self, x: Float[Tensor, "b s d"], first: int = 0, entering: bool = True
    ) -> Float[Tensor, "b v"]:
        """Logits at the last position, from the residual stream that enters the first block."""
        for block in self.model.blocks:
            flows = block.layer > first or (block.layer == first and entering)
            x = self._forward(block, x.detach(), flows, block.layer >= first)
        entry = x[:, -1].detach().requires_grad_()
        if self.beside is not None:
            self.beside.finish(self.model)
        places, kept = _Places(self.graded), Record(self.kept)
        with torch.enable_grad():
            logits = self.model.unembed(entry, chain(self.tap, kept, places), self.ops)
        if self.beside is not None:
            self.beside.forget(self.model.anatomy.n_layers)
        self._note(kept)
        self._pieces.append(_Piece(None, entry, x, places.places))
        return logits

    def _note(self, kept: Record) -> None:
        self.values.update({point: value.detach() for point, value in kept.values.items()})

    def _forward(self, block: Block, x: Tensor, flows: bool, graded: bool) -> Tensor:
        """What a block makes, with a graph of its own where gradients are taken now.

        ``flows``: the gradient at what enters the block is taken too.
        """
        other, places, kept = self.beside, _Places(self.graded), Record(self.kept)
        again = self.again and graded
        entered = None if other is None else other.stream
        if other is not None:
            kinds = other.keep if again else other.keep | other.needs
            other.stream = other.run(block, other.stream, self.frame, kinds)
        tap = chain(self.tap, kept, places)
        # Values are the same whatever the derivatives are; these are made when they are used.
        ops, entry = (PLAIN, x) if again else (self.ops, x.requires_grad_(flows))
        with torch.set_grad_enabled(graded and not again):
            made = run_block(block, entry, self.frame, tap, ops)
        if other is not None:
            other.forget(block.layer)
        self._note(kept)
        graph = None if again else made
        entry = x.requires_grad_(flows)
        self._pieces.append(_Piece(block, entry, graph, places.places, entered))
        return made.detach()

    def gradients(self, total: Tensor) -> dict[Point, Tensor]:
        """The gradient of a number at every wanted point, from the last block to the first.

        The graphs are used up. Where no gradient comes, it is zero.
        """
        last = self._pieces.pop()
        assert last.made is not None
        grads, at_end = _pull(total, None, last)
        g = torch.zeros_like(last.made)
        if at_end is not None:
            g[:, -1] = at_end
        del last
        while self._pieces:
            piece = self._pieces.pop()
            gradients, entering = self._back(piece, g)
            grads |= gradients
            if entering is None:
                g = torch.zeros_like(g)
                break
            g = entering
        for piece in self._pieces:
            grads |= {point: torch.zeros_like(like) for point, (_, like) in piece.places.items()}
        self._pieces.clear()
        if "input" in self.graded:
            grads["input", 0] = g
        return grads

    def _back(self, piece: _Piece, g: Tensor) -> tuple[dict[Point, Tensor], Tensor | None]:
        """Gradients inside a block, and at what entered it if one is taken there."""
        if piece.made is None and piece.block is not None:
            piece = self._run_again(piece.block, piece)
        return _pull(piece.made, g, piece)

    def _run_again(self, block: Block, piece: _Piece) -> _Piece:
        """A block with its graph."""
        places, other = _Places(self.graded), self.beside
        if other is not None:
            assert piece.beside is not None
            other.run(block, piece.beside, self.frame, other.needs)
        with torch.enable_grad():
            tap = chain(self.tap, places)
            made = run_block(block, piece.entry, self.frame, tap, self.ops)
        if other is not None:
            other.forget(block.layer)
        return _Piece(block, piece.entry, made, places.places)


def _pull(
    made: Tensor | None, g: Tensor | None, piece: _Piece
) -> tuple[dict[Point, Tensor], Tensor | None]:
    """Gradients at a piece's points, and at its entry where it takes one."""
    points = [point for point, (edge, _) in piece.places.items() if edge is not None]
    inputs = [edge for edge, _ in piece.places.values() if edge is not None]
    entry = piece.entry.requires_grad
    inputs += [get_gradient_edge(piece.entry)] if entry else []
    assert made is not None
    gradients = torch.autograd.grad(made, inputs, g, allow_unused=True) if inputs else ()
    grads = {point: torch.zeros_like(like) for point, (_, like) in piece.places.items()}
    grads |= {p: value for p, value in zip(points, gradients, strict=False) if value is not None}
    return grads, gradients[-1] if entry else None
