"""One masked run over edges, and the gradient of its loss at every mask.

Every edge ``u -> r`` carries ``m_ur`` of its sender's change, so a port reads

    x_r = off_r + sum over u of m_ur change_u,        change_u = what u writes now - off_u

and the gradient at a mask is ``<g_r, change_u>``, with ``g_r`` the gradient at what the port reads:
what edge attribution multiplies, in the state of the masked run. So no graph goes through the
edges. Forward, each step (some heads of a layer, an MLP, some neurons) reads the stack of changes
and writes its own rows of it. Backward, each takes its rows of the stack of gradients, is computed
once more (where the graphs of all would not fit) and differentiated alone, and gives every sender
its share. Memory is that of two stacks and of one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from patching.blocks import Block
from patching.forward import head_outputs, write_mlp
from patching.frame import Frame
from patching.in_use import undisturbed
from patching.learned.inputs import Inputs
from patching.model import Model
from patching.nodes import neurons
from patching.nodes.heads import head_writes
from patching.nodes.layout import Layout, Ports
from patching.ports import head_reads

LossOf = Callable[[Tensor], Tensor]
"""From logits at the last position to one number."""

CHUNK_BYTES = 64 * 2**20
"""How much of the streams that ports read one step holds."""

GRAPH_BYTES, COPIES = 256 * 2**20, 8
"""How much all steps' graphs may hold before each is computed again on the way back, and about how
many tensors of the size of what its ports read one step's graph has."""

EVERYWHERE, LAST = slice(None), slice(-1, None)
PORTS = ("q", "k", "v")


@dataclass(frozen=True)
class Look:
    """Some ports of a group, ``units``, and the positions ``at`` which they read ``off``."""

    group: Ports
    units: slice
    off: Float[Tensor, "b s d"]
    at: slice


@dataclass(frozen=True)
class Step:
    """Nodes that compute together: what they read, what they make of it, whose rows that is."""

    looks: tuple[Look, ...]
    made: Callable[..., Tensor]
    writes: slice
    at: slice


@dataclass(frozen=True)
class EdgesRun:
    """Masked runs of some prompt pairs, with one mask for every edge of a layout."""

    model: Model
    layout: Layout
    inputs: Inputs

    @undisturbed
    @torch.no_grad()
    def logits(self, masks: Float[Tensor, " edges"]) -> Float[Tensor, "b v"]:
        """Logits at the last position."""
        return self.model.unembed(self._forward(masks).read(self._end())[0, :, 0])

    @undisturbed
    @torch.no_grad()
    def gradient(
        self, masks: Float[Tensor, " edges"], loss_of: LossOf
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " edges"]]:
        """The loss of the logits, and its gradient at every mask."""
        tape, end = self._forward(masks, back=True), self._end()
        x = tape.read(end)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            loss = loss_of(self.model.unembed(leaf[0, :, 0]))
            (at_end,) = torch.autograd.grad(loss, [leaf])
        grads, slopes = torch.zeros_like(tape.stack), torch.zeros_like(tape.masks)
        tape.give(end, at_end, grads, slopes)
        for done in reversed(tape.done):
            tape.back(done, grads, slopes)
        return loss.detach(), slopes.to(masks)

    def _forward(self, masks: Float[Tensor, " edges"], back: bool = False) -> Tape:
        """Every node's change, in the order of computation; ``back`` where one will go back."""
        off = self.inputs.off["input", 0]
        stack = off.new_zeros(self.layout.n_senders, *off.shape)
        stack[0] = self.inputs.clean_input - off
        tape = Tape(stack, masks.to(stack))
        ports = self.layout.ports[-1].first
        keep = back and COPIES * ports * off.numel() * off.element_size() <= GRAPH_BYTES
        for step in self._steps():
            tape.go(step, keep)
        return tape

    def _end(self) -> Look:
        group = self.layout.ports[-1]
        return Look(group, slice(0, 1), self.inputs.off["final_in", group.layer][:, None], LAST)

    def _steps(self) -> Iterator[Step]:
        """All nodes but the input, in the order of computation."""
        frame = self.model.frame(self.inputs.mask)
        first = self.inputs.first
        for block in self.model.blocks:
            # Of the last layer only the last position is read, but for its keys and values.
            ending = block.layer == self.model.anatomy.n_layers - 1
            at = LAST if ending else EVERYWHERE
            rows = frame.rows(frame.allowed.shape[1] - 1 if ending else first)
            yield from self._heads(block, frame, rows, at)
            if self.layout.nodes == "heads":
                yield self._mlp(block, at)
            else:
                yield from self._neurons(block, at)

    def _chunks(self, count: int, coupled: bool, ports: int = 1) -> Iterator[slice]:
        """Parts of a layer's units; all of them where a post-norm couples them."""
        x = self.inputs.off["input", 0]
        size = max(1, CHUNK_BYTES // (ports * x.numel() * x.element_size()))
        size = count if coupled else min(size, count)
        return (slice(start, min(start + size, count)) for start in range(0, count, size))

    def _heads(self, block: Block, frame: Frame, rows: Frame, at: slice) -> Iterator[Step]:
        layer, off = block.layer, self.inputs.off
        first = self.layout.group("head", layer).start
        stream = off["resid_pre", layer]
        for units in self._chunks(block.anatomy.n_heads, block.ln1_post is not None, len(PORTS)):
            groups = (self.layout.receiver("head", layer, port) for port in PORTS)
            places = at, EVERYWHERE, EVERYWHERE
            looks = (Look(g, units, stream[:, p], p) for g, p in zip(groups, places, strict=True))
            heads = _Heads(self, block, units, rows, frame, at)
            yield Step(tuple(looks), heads, _from(first, units), at)

    def _mlp(self, block: Block, at: slice) -> Step:
        layer, off = block.layer, self.inputs.off
        group, writes = self.layout.receiver("mlp", layer), self.layout.group("mlp", layer).slice
        before = off["mlp_out", layer][:, at]

        def made(x: Float[Tensor, "1 b s d"]) -> Float[Tensor, "1 b s d"]:
            return write_mlp(block, x[0])[None] - before

        look = Look(group, slice(0, 1), off["mlp_in", layer][:, at], at)
        return Step((look,), made, writes, at)

    def _neurons(self, block: Block, at: slice) -> Iterator[Step]:
        layer, off = block.layer, self.inputs.off
        group = self.layout.receiver("neuron", layer)
        first = self.layout.group("neuron", layer).start
        for units in self._chunks(group.count, block.ln2_post is not None):
            look = Look(group, units, off["mlp_in", layer][:, at], at)
            yield Step((look,), _Neurons(self, block, units, at), _from(first, units), at)


def _from(first: int, units: slice) -> slice:
    return slice(first + units.start, first + units.stop)


@dataclass(frozen=True)
class Done:
    """A step that was gone, with its own graph where it is kept."""

    step: Step
    leaves: list[Tensor] | None = None
    made: Tensor | None = None


@dataclass(frozen=True)
class Tape:
    """What every sender writes more, the masks through which it is read, and the steps gone."""

    stack: Float[Tensor, "u b s d"]
    masks: Float[Tensor, " edges"]
    done: list[Done] = field(default_factory=list)

    def go(self, step: Step, keep: bool) -> None:
        """One step forward."""
        if keep:
            leaves, made = self._graph(step)
            self.done.append(Done(step, leaves, made))
        else:
            made = step.made(*(self.read(look) for look in step.looks))
            self.done.append(Done(step))
        self.stack[step.writes][:, :, step.at] = made.detach()

    def back(self, done: Done, grads: Tensor, slopes: Tensor) -> None:
        """Differentiate one step alone, from the gradient at what it writes."""
        step, leaves, made = done.step, done.leaves, done.made
        if leaves is None or made is None:
            leaves, made = self._graph(step)
        into = grads[step.writes][:, :, step.at]
        for look, part in zip(step.looks, torch.autograd.grad(made, leaves, into), strict=True):
            self.give(look, part, grads, slopes)

    def _graph(self, step: Step) -> tuple[list[Tensor], Tensor]:
        leaves = [self.read(look).requires_grad_() for look in step.looks]
        with torch.enable_grad():
            return leaves, step.made(*leaves)

    def _seen(self, stack: Tensor, look: Look) -> Float[Tensor, "u n"]:
        return stack[: look.group.reads, :, look.at].flatten(1)

    def _weights(self, masks: Tensor, look: Look) -> Float[Tensor, "r u"]:
        group = look.group
        return masks[group.edges].view(group.count, group.reads)[look.units]

    def read(self, look: Look) -> Float[Tensor, "r b s d"]:
        """What ports read."""
        weights, seen = self._weights(self.masks, look), self._seen(self.stack, look)
        return torch.addmm(look.off.reshape(1, -1), weights, seen).unflatten(1, look.off.shape)

    def give(self, look: Look, g: Float[Tensor, "r b s d"], grads: Tensor, slopes: Tensor) -> None:
        """From the gradient at what ports read: that at their masks, and each sender's share."""
        flat = g.flatten(1)
        self._weights(slopes, look).add_(flat @ self._seen(self.stack, look).T)
        into = grads[: look.group.reads, :, look.at]
        if into.is_contiguous():
            into.flatten(1).addmm_(self._weights(self.masks, look).T, flat)
        else:
            into += (self._weights(self.masks, look).T @ flat).view(into.shape)


@dataclass(frozen=True)
class _Heads:
    """What some heads of a layer write more, from what their three ports read."""

    run: EdgesRun
    block: Block
    units: slice
    rows: Frame
    frame: Frame
    at: slice

    def __call__(
        self, q: Float[Tensor, "h b t d"], k: Float[Tensor, "h b s d"], v: Float[Tensor, "h b s d"]
    ) -> Float[Tensor, "h b t d"]:
        block, off = self.block, self.run.inputs.off
        heads = torch.arange(self.units.start, self.units.stop, device=q.device)
        q, k, v = (
            head_reads(block, port, block.ln1(x), heads)
            for port, x in zip(PORTS, (q, k, v), strict=True)
        )
        if self.run.inputs.first:
            k = torch.cat([off["k_read", block.layer][:, :, self.units], k], dim=1)
            v = torch.cat([off["v_read", block.layer][:, :, self.units], v], dim=1)
        z = head_outputs(block, q, k, v, self.rows, key_frame=self.frame, heads=heads)
        before = off["z", block.layer][:, self.at]
        if block.ln1_post is None:
            change = (z - before[:, :, self.units]).permute(2, 0, 1, 3)
            weight = block.W_O[self.units].to(change.dtype)
            return torch.einsum("hbse,hed->hbsd", change, weight)
        now = head_writes(block, z, block.attention_output(z))
        then = head_writes(block, before, off["attn_raw", block.layer][:, self.at])
        return (now - then).transpose(0, 1)


@dataclass(frozen=True)
class _Neurons:
    """What some neurons of a layer write more, from what each of them reads."""

    run: EdgesRun
    block: Block
    units: slice
    at: slice

    def __call__(self, x: Float[Tensor, "n b s d"]) -> Float[Tensor, "n b s d"]:
        block, off = self.block, self.run.inputs.off
        which = torch.arange(self.units.start, self.units.stop, device=x.device)
        made = neurons.answers(block, x, which)
        before = off["mlp_post", block.layer][:, self.at]
        # Under a post-norm these are all neurons of the layer, whose whole write has one scale.
        now = neurons.amounts(block, made, _whole(block, made))
        raw = off["mlp_raw", block.layer][:, self.at]
        then = neurons.amounts(block, before[:, :, self.units], raw)
        directions = neurons.directions(block, made)[self.units]
        return (now - then).permute(2, 0, 1)[..., None] * directions[:, None, None]


def _whole(block: Block, made: Float[Tensor, "b s n"]) -> Float[Tensor, "b s d"]:
    """What all neurons write together, where their amounts depend on it."""
    return made if block.ln2_post is None else block.neurons_output(made)
