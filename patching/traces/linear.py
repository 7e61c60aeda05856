"""The frozen replacement model run forwards, with every node's contribution times a factor.

What direct effects are by definition: without a node, or with twice as much of it, pre-activations
and centred logits move by its column, since everything between nodes is affine.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.readings import point_of
from patching.forward import run_block
from patching.norms import precise
from patching.ops import Point
from patching.traces.frozen import FrozenOps
from patching.traces.nodes import ERROR, LATENT, TOKEN, Nodes
from patching.traces.replaced import Replaced


@dataclass(frozen=True)
class LinearRun:
    """Pre-activations of every layer's latents, and the final normed stream."""

    pre: dict[int, Float[Tensor, "s m"]]
    final: Float[Tensor, " d"]

    def targets(self, replaced: Replaced, nodes: Nodes) -> Float[np.ndarray, " t"]:
        """What every target of a graph is: a pre-activation or a centred logit."""
        some = nodes[nodes.targets]
        found = np.zeros(len(some))
        for layer in sorted(set(some.layer.tolist())):
            rows = np.flatnonzero(some.layer == layer)
            unit, at = (
                torch.as_tensor(x[rows], device=self.final.device)
                for x in (some.unit, some.position)
            )
            is_end = layer == len(replaced.parts.layers)
            values = (
                replaced.unembedding(unit) @ self.final if is_end else self.pre[layer][at, unit]
            )
            found[rows] = values.double().cpu().numpy()
        return found


def targets_of(
    replaced: Replaced, nodes: Nodes
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """What targets are (of a pair, how they differ), and what of it no node brings about."""
    parts = replaced.parts
    known = {i: part.pre for i, part in enumerate(parts.layers) if part.pre is not None}
    pre = LinearRun(known, parts.final).targets(replaced, nodes)
    if replaced.paired:
        # Biases and positions are the same in both runs.
        return pre, np.zeros_like(pre)
    nothing = linear_run(replaced, nodes, np.zeros(len(nodes)))
    return pre, nothing.targets(replaced, nodes)


def linear_run(replaced: Replaced, nodes: Nodes, factors: Float[np.ndarray, " n"]) -> LinearRun:
    """Run the model with patterns and scales of the prompt, and nodes times their factors.

    Factors of 1 give the prompt's own values. Latents do not answer to one another: every node
    writes what its factor says, and only what is read from the stream changes.
    """
    return _Linear(replaced, nodes, factors).run()


@dataclass
class _Linear:
    """One such run; also a tap, which puts what nodes write instead of MLPs' outputs."""

    replaced: Replaced
    nodes: Nodes
    factors: Float[np.ndarray, " n"]
    pre: dict[int, Tensor] = field(default_factory=dict)
    seen: dict[Point, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ops = FrozenOps(self.replaced.clean.values)

    @torch.no_grad()
    def run(self) -> LinearRun:
        model, ids = self.replaced.model, self.replaced.ids[None]
        with model.reading():
            frame = model.frame(torch.ones_like(ids, dtype=torch.bool))
            tokens = self.replaced.clean.tokens
            change = self._factors(self.nodes.of(TOKEN)).to(tokens) - 1
            x = precise(model.embed(ids, frame)) + change[:, None] * tokens
            x = x.to(model.dtype)
            for block in model.blocks:
                x = run_block(block, x, frame, self, self.ops)
            end = self.ops.norm(model.final_norm, x[:, -1], ("final_in", len(model.blocks)))
        return LinearRun(self.pre, precise(end)[0])

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """What nodes write, at MLPs' outputs; elsewhere the value itself, which is noted."""
        if kind != "mlp_out":
            self.seen[kind, layer] = value
            return value
        part, here = self.replaced.clean.layers[layer], self.nodes.layer == layer
        errors = self._factors(here & self.nodes.of(ERROR)).to(part.error)[:, None]
        out = part.error * errors
        if part.dictionary is not None:
            assert part.amounts is not None
            out = out + self._from_latents(part.dictionary, part.amounts, errors, layer)
        return out[None].to(value.dtype)

    def _from_latents(
        self,
        d: Dictionary,
        amounts: Float[Tensor, "s m"],
        errors: Float[Tensor, "s 1"],
        layer: int,
    ) -> Float[Tensor, "s d"]:
        """What a transcoder writes; its latents' pre-activations are noted.

        A latent that is no node counts as part of its error.
        """
        latents = (self.nodes.layer == layer) & self.nodes.of(LATENT)
        some, factors = self.nodes[latents], errors.repeat(1, amounts.shape[1])
        at, unit = (torch.as_tensor(v, device=amounts.device) for v in (some.position, some.unit))
        factors[at, unit] = self._factors(latents).to(amounts)
        amounts = amounts * factors
        x = self._read(d)[0]
        self.pre[layer] = d.pre(x)
        out = amounts @ d.W_dec + d.b_dec
        return out if d.skip is None else out + x @ d.skip.T

    def _read(self, d: Dictionary) -> Float[Tensor, "1 s d"]:
        """What the encoder reads, with the scale of the prompt's own run."""
        point = point_of(d.reads)
        x, norm = precise(self.seen[point]), self.replaced.model.blocks[d.reads.layer].ln2
        if d.reads.kind == "mlp_normed":
            return precise(self.ops.norm(norm, x, point))
        if d.reads.kind == "mlp_scaled":
            return norm.centre(x) / norm.scale(self.replaced.clean.values[point])
        return x

    def _factors(self, which: np.ndarray) -> Tensor:
        return torch.as_tensor(self.factors[which], device=self.replaced.ids.device)
