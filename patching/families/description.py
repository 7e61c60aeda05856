"""What one says of a family of models: where its parts are, and what it does besides the usual.

The defaults are Llama's. Paths lead from the transformers model, or from one decoder layer, through
attributes; an empty path means that the part does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from patching.experts import Experts
from patching.families import rotary
from patching.families.alibi import KeyBias
from patching.families.fused import FusedProjection, Part
from patching.families.windows import by_layer_type
from patching.frame import Table

Tables = Callable[[Any], Callable[[Int[Tensor, "b s"], Tensor], Mapping[str, Table]]]


def own_scale(attention: Any, config: Any, layer: int) -> float:
    """The factor of scores that the attention module names itself."""
    return float(attention.scaling)


def one_table(config: Any, layer: int) -> str | None:
    """All layers use the one rotary table of the model."""
    return ""


@dataclass(frozen=True)
class Family:
    """Where a family keeps its parts, and its traits.

    Of the model: ``embed``, ``layers``, ``final_norm``, ``unembed``; ``into`` and ``out_of`` are
    maps between a narrower embedding and the stream; ``embed_norm`` a norm of the embedding;
    ``positions`` learned or fixed position vectors, looked up at the position plus
    ``position_offset``; factors and a soft-cap of embedding and logits.

    Of a layer: norms before (``ln1``, ``ln2``) and after (``ln1_post``, ``ln2_post``) attention and
    MLP; ``parallel`` where both read the same stream; the matrices of heads and MLP, several of
    which may be fused in one module.

    ``right_attention`` is the implementation of attention in transformers that the opened model is
    compared with, where not all of them compute the same.
    """

    embed: str = "model.embed_tokens"
    layers: str = "model.layers"
    final_norm: str = "model.norm"
    unembed: str = "lm_head"
    into: str = ""
    out_of: str = ""
    embed_norm: str = ""
    positions: str = ""
    position_offset: int = 0
    embed_scale: float = 1.0
    logit_scale: float = 1.0
    logit_cap: float | None = None

    attention: str = "self_attn"
    ln1: str = "input_layernorm"
    ln2: str = "post_attention_layernorm"
    ln1_post: str = ""
    ln2_post: str = ""
    parallel: bool = False
    write_scale: float = 1.0

    q: Part = "self_attn.q_proj"
    k: Part = "self_attn.k_proj"
    v: Part = "self_attn.v_proj"
    o: str = "self_attn.o_proj"
    gate: Part = "mlp.gate_proj"
    up: Part = "mlp.up_proj"
    down: str = "mlp.down_proj"
    act: str = "mlp.act_fn"
    q_norm: str = ""
    k_norm: str = ""
    norms_turned: bool = False
    clip: float | None = None
    sinks: str = ""

    scale: Callable[[Any, Any, int], float] = own_scale
    softcap: float | None = None
    window: Callable[[Any, int], int | None] = by_layer_type
    tables: Tables | None = rotary.one
    table: Callable[[Any, int], str | None] = one_table
    interleaved: bool = False
    query_scale: Callable[[Any], Callable[[Int[Tensor, "b s"]], Float[Tensor, "b s"]]] | None = None
    key_bias: Callable[[Any], KeyBias] | None = None
    experts: Callable[[Any, Any], Experts | None] | None = None
    right_attention: str | None = None


__all__ = ["Family", "FusedProjection", "Part"]
