"""One transformer block taken apart into the pieces that circuits are made of.

The pieces are the model's own modules, found where its family keeps them
(:mod:`patching.families`); nothing here depends on a model family. Weights are read at every
call, so edits to the live model are seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from patching.anatomy import Anatomy
from patching.experts import Experts
from patching.frame import Frame
from patching.norms import Norm

PORTS = ("q", "k", "v")


@dataclass(frozen=True)
class Rotary:
    """How a layer turns queries and keys: by which table, and which features form a pair.

    Feature ``i`` is paired with ``i + r/2`` of the ``r`` that turn, or, ``interleaved``, with its
    neighbour. The rest of a head's features pass.
    """

    table: str = ""
    interleaved: bool = False

    def __call__(self, x: Float[Tensor, "b s h e"], frame: Frame) -> Float[Tensor, "b s h e"]:
        """``x`` turned by its positions."""
        cos, sin = (part[:, :, None] for part in frame.tables[self.table])
        size = cos.shape[-1]
        turning, passing = x[..., :size], x[..., size:]
        # Some models keep their tables in float32 where they compute in half precision.
        turned = (turning * cos + self._quarter(turning) * sin).to(x.dtype)
        return torch.cat([turned, passing], dim=-1) if passing.shape[-1] else turned

    def _quarter(self, x: Tensor) -> Tensor:
        """A quarter turn of every pair: ``(a, b)`` becomes ``(-b, a)``."""
        if self.interleaved:
            return torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
        first, second = x.chunk(2, dim=-1)
        return torch.cat([-second, first], dim=-1)


@dataclass(frozen=True)
class Block:
    """The parts of one layer. Shapes: residual ``[b, s, d]``, heads ``[b, s, heads, d_head]``.

    Besides modules and norms:
        whole_norms: norms of all queries, or of all keys, of a layer together (OLMo 2), by port.
        clip: queries, keys and values are cut off at plus and minus this (OLMo, MPT).
        norms_turned: the norms of single queries and keys stand after the rotary embedding.
        sinks: a score per head that takes attention away from all keys ``[h]`` (gpt-oss).
        key_bias: what scores get by their keys' positions, ``[b, k]`` to ``[b, h, k]`` (ALiBi).
        write_scale: a factor of all that the layer writes to the stream (Granite).
        experts: a mixture of experts instead of gate, up and down.
    """

    layer: int
    anatomy: Anatomy
    ln1: Norm
    ln2: Norm
    q: nn.Module
    k: nn.Module
    v: nn.Module
    o: nn.Module
    up: nn.Module | None
    down: nn.Module | None
    act: Callable[[Tensor], Tensor] | None
    gate: nn.Module | None = None
    ln1_post: Norm | None = None
    ln2_post: Norm | None = None
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    norms_turned: bool = False
    whole_norms: Mapping[str, Norm] = field(default_factory=lambda: MappingProxyType({}))
    clip: float | None = None
    rotary: Rotary | None = None
    attention_scale: float = 1.0
    softcap: float | None = None
    window: int | None = None
    sinks: nn.Parameter | None = None
    key_bias: Callable[[Int[Tensor, "b k"]], Float[Tensor, "b h k"]] | None = None
    write_scale: float = 1.0
    experts: Experts | None = None

    def project(self, port: str, n: Float[Tensor, "b s d"]) -> Float[Tensor, "b s units e"]:
        """What a port's matrix makes of the normed residual, by head, and nothing more."""
        out: Tensor = self._matrix(port)(n)
        return out.unflatten(-1, (-1, self.anatomy.d_head))

    def _matrix(self, port: str) -> nn.Module:
        return {"q": self.q, "k": self.k, "v": self.v}[port]

    def _reads(self, port: str, n: Tensor) -> Tensor:
        out = self.project(port, n)
        if port in self.whole_norms:
            out = self.whole_norms[port](out.flatten(-2)).view_as(out)
        return out if self.clip is None else self.cut_off(out)

    def queries(self, n: Float[Tensor, "b s d"]) -> Float[Tensor, "b s h e"]:
        """Queries of all heads from the normed residual, before rotary embedding."""
        return self._reads("q", n)

    def keys(self, n: Float[Tensor, "b s d"]) -> Float[Tensor, "b s kv e"]:
        """Keys of all key/value heads, before rotary embedding."""
        return self._reads("k", n)

    def values(self, n: Float[Tensor, "b s d"]) -> Float[Tensor, "b s kv e"]:
        """Values of all key/value heads."""
        return self._reads("v", n)

    def linear(self, port: str) -> bool:
        """Whether a head's part of the port is a linear map of the normed residual alone."""
        return self.clip is None and port not in self.whole_norms

    def cut_off(self, x: Tensor) -> Tensor:
        """``x`` cut off at plus and minus ``clip``."""
        assert self.clip is not None
        return x.clamp(-self.clip, self.clip)

    def share(self, kv: Float[Tensor, "b s kv e"]) -> Float[Tensor, "b s h e"]:
        """One copy of each key/value head for every query head that reads it."""
        groups = self.anatomy.n_heads // self.anatomy.n_kv_heads
        return kv if groups == 1 else kv.repeat_interleave(groups, dim=-2)

    def turn(self, x: Float[Tensor, "b s h e"], frame: Frame) -> Float[Tensor, "b s h e"]:
        """Rotary position embedding, where the layer has one."""
        return x if self.rotary is None else self.rotary(x, frame)

    def attention_output(self, z: Float[Tensor, "b s h e"]) -> Float[Tensor, "b s d"]:
        """What all heads write together, before any post-norm."""
        out: Tensor = self.o(z.flatten(-2))
        return out if self.write_scale == 1 else out * self.write_scale

    def neurons_output(self, post: Float[Tensor, "b s m"]) -> Float[Tensor, "b s d"]:
        """What all neurons write together, before any post-norm."""
        assert self.down is not None
        out: Tensor = self.down(post)
        return out if self.write_scale == 1 else out * self.write_scale

    @property
    def W_O(self) -> Float[Tensor, "h e d"]:
        """Output weights by head, as they count in what the layer writes."""
        weight = weight_in_out(self.o).unflatten(0, (self.anatomy.n_heads, self.anatomy.d_head))
        return weight if self.write_scale == 1 else weight * self.write_scale

    @property
    def W_out(self) -> Float[Tensor, "m d"]:
        """What each neuron of an ordinary MLP writes, as it counts in what the layer writes."""
        assert self.down is not None
        weight = weight_in_out(self.down)
        return weight if self.write_scale == 1 else weight * self.write_scale

    def matrices(self) -> list[Float[Tensor, "i o"]]:
        """All weights of attention and MLP, each once, as live views ``[in, out]``."""
        parts = (self.q, self.k, self.v, self.o, self.gate, self.up, self.down)
        whole = [getattr(part, "fused", part) for part in parts if part is not None]
        own = [weight_in_out(part) for part in dict.fromkeys(whole)]
        return own if self.experts is None else own + self.experts.matrices()

    def matrix(self, port: str) -> Float[Tensor, "d ue"]:
        """Projection weights of a port (q, k or v), of each unit once."""
        return weight_in_out(self._matrix(port))

    def input_weight(self, port: str) -> Float[Tensor, "h d e"]:
        """Projection weights of a port (q, k or v) by query head."""
        weight = self.matrix(port)
        return self._by_query_head(weight.unflatten(-1, (-1, self.anatomy.d_head)).movedim(-2, 0))

    def input_bias(self, port: str) -> Float[Tensor, "h e"] | None:
        """Projection bias of a port by query head."""
        bias = getattr(self._matrix(port), "bias", None)
        if bias is None:
            return None
        return self._by_query_head(bias.detach().unflatten(-1, (-1, self.anatomy.d_head)))

    def _by_query_head(self, by_head: Tensor) -> Tensor:
        groups = self.anatomy.n_heads // by_head.shape[0]
        return by_head.repeat_interleave(groups, dim=0) if groups > 1 else by_head


def weight_in_out(module: Any) -> Float[Tensor, "i o"]:
    """The weight of a linear layer as ``[in, out]``, whichever way it is stored."""
    weight: Tensor = module.weight
    return weight.detach() if type(module).__name__ == "Conv1D" else weight.detach().T
