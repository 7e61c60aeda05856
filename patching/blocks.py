"""One transformer block taken apart into the pieces that circuits are made of.

The pieces are the model's own modules, found under the uniform names that the TransformerLens
bridge gives them; nothing here depends on a model family. Weights are read at every call, so
edits to the live model are seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patching.anatomy import Anatomy
from patching.frame import Frame
from patching.norms import Norm, find_norm
from tasks.errors import ModelError


@dataclass(frozen=True)
class Block:
    """The parts of one layer. Shapes: residual ``[b, s, d]``, heads ``[b, s, heads, d_head]``."""

    layer: int
    anatomy: Anatomy
    ln1: Norm
    ln2: Norm
    ln1_post: Norm | None
    ln2_post: Norm | None
    q: nn.Module
    k: nn.Module
    v: nn.Module
    o: nn.Module
    q_norm: Norm | None
    k_norm: Norm | None
    gate: nn.Module | None
    up: nn.Module
    down: nn.Module
    act: Callable[[Tensor], Tensor]
    attention_scale: float
    softcap: float | None
    window: int | None

    def queries(self, n: Float[Tensor, "b s d"]) -> Float[Tensor, "b s h e"]:
        """Queries of all heads from the normed residual, before rotary embedding."""
        return self._heads(self.q, n, self.anatomy.n_heads)

    def keys(self, n: Float[Tensor, "b s d"]) -> Float[Tensor, "b s kv e"]:
        """Keys of all key/value heads, before rotary embedding."""
        return self._heads(self.k, n, self.anatomy.n_kv_heads)

    def values(self, n: Float[Tensor, "b s d"]) -> Float[Tensor, "b s kv e"]:
        """Values of all key/value heads."""
        return self._heads(self.v, n, self.anatomy.n_kv_heads)

    def _heads(self, module: nn.Module, n: Tensor, heads: int) -> Tensor:
        out: Tensor = module(n)
        return out.unflatten(-1, (heads, self.anatomy.d_head))

    def share(self, kv: Float[Tensor, "b s kv e"]) -> Float[Tensor, "b s h e"]:
        """One copy of each key/value head for every query head that reads it."""
        groups = self.anatomy.n_heads // self.anatomy.n_kv_heads
        return kv if groups == 1 else kv.repeat_interleave(groups, dim=-2)

    def attention_output(self, z: Float[Tensor, "b s h e"]) -> Float[Tensor, "b s d"]:
        """What all heads write together, before any post-norm."""
        out: Tensor = self.o(z.flatten(-2))
        return out

    @property
    def W_O(self) -> Float[Tensor, "h e d"]:
        """Output weights by head."""
        heads = (self.anatomy.n_heads, self.anatomy.d_head)
        return weight_in_out(self.o).unflatten(0, heads)

    def input_weight(self, port: str) -> Float[Tensor, "h d e"]:
        """Projection weights of a port (q, k or v) by query head."""
        module = {"q": self.q, "k": self.k, "v": self.v}[port]
        weight = weight_in_out(module)
        by_head = weight.unflatten(-1, (-1, self.anatomy.d_head)).movedim(-2, 0)
        groups = self.anatomy.n_heads // by_head.shape[0]
        return by_head.repeat_interleave(groups, dim=0) if groups > 1 else by_head

    def input_bias(self, port: str) -> Float[Tensor, "h e"] | None:
        """Projection bias of a port by query head."""
        module = {"q": self.q, "k": self.k, "v": self.v}[port]
        bias = getattr(module, "bias", None)
        if bias is None:
            return None
        by_head = bias.detach().unflatten(-1, (-1, self.anatomy.d_head))
        groups = self.anatomy.n_heads // by_head.shape[0]
        return by_head.repeat_interleave(groups, dim=0) if groups > 1 else by_head


def weight_in_out(module: nn.Module) -> Float[Tensor, "i o"]:
    """The weight of a linear layer as ``[in, out]``, whichever way it is stored."""
    weight: Any = module.weight
    return weight.detach() if type(module).__name__ == "Conv1D" else weight.detach().T


def rotate(x: Float[Tensor, "b s h e"], frame: Frame) -> Float[Tensor, "b s h e"]:
    """Rotary position embedding on the leading features of each head (half-split pairs)."""
    if frame.cos is None or frame.sin is None:
        return x
    cos, sin = frame.cos[:, :, None], frame.sin[:, :, None]
    size = cos.shape[-1]
    turning, passing = x[..., :size], x[..., size:]
    first, second = turning.chunk(2, dim=-1)
    turned = turning * cos + torch.cat([-second, first], dim=-1) * sin
    return torch.cat([turned, passing], dim=-1) if passing.shape[-1] else turned


def _part(component: Any, name: str) -> nn.Module | None:
    """The model's own module behind a bridge component, or None where there is none."""
    submodules = getattr(component, "submodules", {})
    found = submodules.get(name) if name in submodules else getattr(component, name, None)
    return None if found is None else getattr(found, "original_component", found)


def _required(component: Any, name: str, layer: int) -> nn.Module:
    found = _part(component, name)
    if found is None:
        raise ModelError(
            f"layer {layer} has no part '{name}' that can be told apart (found "
            f"{type(component).__name__}); mixtures of experts, state-space and fused blocks "
            f"cannot be taken apart into heads and one MLP"
        )
    return found


def take_apart(block: Any, layer: int, anatomy: Anatomy) -> Block:
    """The parts of a bridge block.

    Raises:
        ModelError: a part is missing or is of a kind that cannot be decomposed.
    """
    attn, mlp = block.attn, block.mlp
    if not hasattr(mlp, "submodules"):
        raise ModelError(f"layer {layer}: {type(mlp).__name__} is not a plain or gated MLP")
    hf_attn, hf_mlp = attn.original_component, mlp.original_component
    act = getattr(hf_mlp, "act", None) or getattr(hf_mlp, "act_fn", None)
    if act is None:
        raise ModelError(f"layer {layer}: no activation function found in {type(hf_mlp).__name__}")

    def norm(name: str, within: Any = block, width: int = anatomy.d_model) -> Norm | None:
        module = _part(within, name)
        return None if module is None else find_norm(module, width)

    ln1, ln2 = norm("ln1"), norm("ln2")
    if ln1 is None or ln2 is None:
        raise ModelError(f"layer {layer} is not pre-norm: it lacks a norm before one of its parts")
    return Block(
        layer=layer,
        anatomy=anatomy,
        ln1=ln1,
        ln2=ln2,
        ln1_post=norm("ln1_post"),
        ln2_post=norm("ln2_post"),
        q=_required(attn, "q", layer),
        k=_required(attn, "k", layer),
        v=_required(attn, "v", layer),
        o=_required(attn, "o", layer),
        q_norm=norm("q_norm", attn, anatomy.d_head),
        k_norm=norm("k_norm", attn, anatomy.d_head),
        gate=_part(mlp, "gate"),
        up=_required(mlp, "in", layer),
        down=_required(mlp, "out", layer),
        act=act,
        attention_scale=float(getattr(hf_attn, "scaling", 1.0)),
        softcap=getattr(hf_attn, "attn_logit_softcapping", None),
        window=_window(hf_attn),
    )


def _window(hf_attn: Any) -> int | None:
    """How many keys, itself included, a query of this layer can look back to; None for all."""
    if hasattr(hf_attn, "attention_type"):
        return int(hf_attn.config.window_size) if hf_attn.attention_type == "local" else None
    if hasattr(hf_attn, "sliding_window"):
        return hf_attn.sliding_window
    config = hf_attn.config
    return None if hasattr(config, "layer_types") else getattr(config, "sliding_window", None)
