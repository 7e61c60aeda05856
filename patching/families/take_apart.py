"""A transformers model taken apart by the description of its family.

1. The description says where embedding, layers and unembedding are.
2. From each layer, its matrices and norms make one :class:`~patching.blocks.Block`.
3. Counts and widths are read off the matrices, not off the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from patching.anatomy import Anatomy
from patching.blocks import Block, Rotary
from patching.families.alibi import KeyBias
from patching.families.description import Family
from patching.families.fused import FusedProjection, FusedRows, Part
from patching.frame import Table
from patching.norms import NoNorm, Norm, find_norm
from tasks.errors import ModelError


@dataclass(frozen=True)
class Parts:
    """A model in pieces: layers, and what stands before the first and behind the last."""

    anatomy: Anatomy
    layers: tuple[nn.Module, ...]
    blocks: tuple[Block, ...]
    final_norm: Norm
    tokens: nn.Module
    embed: Callable[[Int[Tensor, "b s"], Int[Tensor, "b s"]], Float[Tensor, "b s d"]]
    position_vectors: Callable[[Int[Tensor, "b s"]], Float[Tensor, "b s d"]] | None
    unembed: Callable[[Float[Tensor, "b d"]], Float[Tensor, "b v"]]
    unembedding: Callable[[], Float[Tensor, "v d"]]
    logit_cap: float | None
    right_attention: str | None
    tables: Callable[[Int[Tensor, "b s"]], Mapping[str, Table]] | None
    query_scale: Callable[[Int[Tensor, "b s"]], Float[Tensor, "b s"]] | None


def take_apart(hf: Any, family: Family) -> Parts:
    """The pieces of a model.

    Raises:
        ModelError: a part is not where the description says, or is of a kind that circuits does not
            know, or layers differ in shape.
    """
    layers = tuple(_find(hf, family.layers))
    anatomy = _anatomy(hf, family, layers)
    key_bias = None if family.key_bias is None else family.key_bias(hf.config)
    blocks = tuple(
        _block(layer, number, hf.config, family, anatomy, key_bias)
        for number, layer in enumerate(layers)
    )
    tokens = _find(hf, family.embed)
    make = None if family.tables is None else family.tables(hf)
    like = tokens.weight
    return Parts(
        anatomy=anatomy,
        layers=layers,
        blocks=blocks,
        final_norm=find_norm(_find(hf, family.final_norm), anatomy.d_model, like),
        tokens=tokens,
        embed=_embedding(hf, family, tokens),
        position_vectors=_position_vectors(hf, family),
        **_unembedding(hf, family),
        logit_cap=family.logit_cap,
        right_attention=family.right_attention,
        tables=None if make is None else lambda positions: make(positions, tokens.weight[:0]),
        query_scale=None if family.query_scale is None else family.query_scale(hf),
    )


def shape_of(hf: Any, family: Family) -> tuple[Anatomy, bool]:
    """The shape of a model, and whether its MLPs have a gate: also of one without weights.

    Raises:
        ModelError: as for :func:`take_apart`.
    """
    return _anatomy(hf, family, tuple(_find(hf, family.layers))), bool(family.gate)


def _find(module: Any, path: str) -> Any:
    """What stands at a path of attributes.

    Raises:
        ModelError: nothing does.
    """
    here = module
    for name in path.split("."):
        here = getattr(here, name, None)
        if here is None:
            raise ModelError(f"a {type(module).__name__} has no part '{path}'")
    return here


def _map(layer: nn.Module, part: Part) -> Any:
    """The linear map of a part; None where the path is empty."""
    if isinstance(part, FusedProjection):
        return FusedRows(_find(layer, part.path), part)
    return _find(layer, part) if part else None


def _outputs(module: Any) -> int:
    """How many outputs a linear map has."""
    weight = module.weight
    return int(weight.shape[1] if type(module).__name__ == "Conv1D" else weight.shape[0])


def _inputs(module: Any) -> int:
    weight = module.weight
    return int(weight.shape[0] if type(module).__name__ == "Conv1D" else weight.shape[1])


def _anatomy(hf: Any, family: Family, layers: tuple[Any, ...]) -> Anatomy:
    heads, first = int(hf.config.num_attention_heads), layers[0]
    shapes = {_shape(layer, family, heads) for layer in layers}
    if len(shapes) > 1:
        raise ModelError(
            f"layers differ in shape (key/value heads, width of a head, width of the stream: "
            f"{', '.join(map(str, sorted(shapes)))}); circuits numbers all layers in the same way"
        )
    ((kv, d_head, d_model),) = shapes
    mixed = _mixture(hf, family, layers)
    d_mlp = 0 if mixed else _inputs(_find(first, family.down))
    family_name = str(hf.config.model_type)
    counts = len(layers), heads, kv, d_model, d_head, d_mlp
    return Anatomy(*counts, family.parallel, family_name, **mixed)


def _mixture(hf: Any, family: Family, layers: tuple[Any, ...]) -> dict[str, Any]:
    """What an anatomy says of a mixture of experts; nothing where no layer is one."""
    found = [None if family.experts is None else family.experts(la, hf.config) for la in layers]
    shapes = {(len(each.each), each.shared is not None) for each in found if each is not None}
    if not shapes:
        return {}
    if len(shapes) > 1:
        raise ModelError(
            f"layers differ in their experts (how many, whether one is shared: "
            f"{', '.join(map(str, sorted(shapes)))}); circuits numbers all layers in the same way"
        )
    ((count, shared),) = shapes
    dense = tuple(layer for layer, each in enumerate(found) if each is None)
    return {"n_experts": count, "shared_expert": shared, "dense_layers": dense}


def _shape(layer: Any, family: Family, heads: int) -> tuple[int, int, int]:
    """Key/value heads, width of a head, width of the stream."""
    out = _find(layer, family.o)
    d_head = _inputs(out) // heads
    return _outputs(_map(layer, family.k)) // d_head, d_head, _outputs(out)


def _block(
    layer: Any, number: int, config: Any, f: Family, anatomy: Anatomy, key_bias: KeyBias | None
) -> Block:
    attention = _find(layer, f.attention)
    experts = None if f.experts is None else f.experts(layer, config)
    parts: dict[str, Any] = {"gate": None, "up": None, "down": None, "act": None}
    if experts is None:
        parts = {name: _map(layer, getattr(f, name)) for name in parts}
    like = _find(layer, f.o).weight

    def norm(path: str) -> Norm | None:
        return find_norm(_find(layer, path), anatomy.d_model, like) if path else None

    table = None if f.tables is None else f.table(config, number)
    return Block(
        layer=number,
        anatomy=anatomy,
        ln1=norm(f.ln1) or NoNorm(),
        ln2=norm(f.ln2) or NoNorm(),
        ln1_post=norm(f.ln1_post),
        ln2_post=norm(f.ln2_post),
        **{port: _map(layer, getattr(f, port)) for port in ("q", "k", "v")},
        o=_find(layer, f.o),
        **parts,
        **_port_norms(layer, f, anatomy, like),
        norms_turned=f.norms_turned,
        clip=f.clip,
        rotary=None if table is None else Rotary(table, f.interleaved),
        attention_scale=f.scale(attention, config, number),
        softcap=f.softcap,
        window=f.window(config, number),
        sinks=_find(layer, f.sinks) if f.sinks else None,
        key_bias=key_bias,
        write_scale=f.write_scale,
        experts=experts,
    )


def _port_norms(layer: Any, f: Family, anatomy: Anatomy, like: Tensor) -> dict[str, Any]:
    """Norms of queries and keys: of single ones, of each head's own, or of all together."""
    found: dict[str, Any] = {"whole_norms": {}}
    units = {"q": anatomy.n_heads, "k": anatomy.n_kv_heads}
    for port, path in (("q", f.q_norm), ("k", f.k_norm)):
        if not path:
            continue
        module = _find(layer, path)
        weight, width = _affine_of_heads(module)[0], units[port] * anatomy.d_head
        if weight is not None and weight.shape == (width,) and width > anatomy.d_head:
            found["whole_norms"][port] = find_norm(module, width, like)
            continue
        norm = find_norm(module, anatomy.d_head, like, _affine_of_heads)
        shared = torch.arange(anatomy.n_heads) // (anatomy.n_heads // units[port])
        found[f"{port}_norm"] = norm.of_heads(shared)
    return found


def _affine_of_heads(module: Any) -> tuple[Tensor | None, Tensor | None]:
    """Weight and bias of a norm, or of a list of norms, one for each head, stacked."""
    if not hasattr(module, "norms"):
        return getattr(module, "weight", None), getattr(module, "bias", None)
    parts = [(norm.weight, norm.bias) for norm in module.norms]
    weights, biases = zip(*parts, strict=True)
    return torch.stack(weights), None if biases[0] is None else torch.stack(biases)


def _embedding(hf: Any, f: Family, tokens: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Token and position vectors, as they enter the first layer."""
    into, norm = (_find(hf, path) if path else None for path in (f.into, f.embed_norm))
    vectors = _position_vectors(hf, f)

    def embed(ids: Tensor, at: Tensor) -> Tensor:
        x: Tensor = tokens(ids)
        x = x if f.embed_scale == 1 else x * f.embed_scale
        x = x if into is None else into(x)
        x = x if norm is None else norm(x)
        return x if vectors is None else x + vectors(at)

    return embed


def _position_vectors(hf: Any, f: Family) -> Callable[[Tensor], Tensor] | None:
    """The vectors that are added for positions; None where there are none."""
    if not f.positions:
        return None
    positions = _find(hf, f.positions)
    return lambda at: nn.functional.embedding(at + f.position_offset, _vectors(positions))


def _vectors(positions: Any) -> Tensor:
    """The vectors of learned or fixed positions."""
    return positions.weight if hasattr(positions, "weight") else positions.weights


def _unembedding(hf: Any, f: Family) -> dict[str, Any]:
    """The map from the normed stream to logits, and its matrix."""
    out, unembed = _find(hf, f.out_of) if f.out_of else None, _find(hf, f.unembed)

    def logits(x: Tensor) -> Tensor:
        given: Tensor = unembed(x if out is None else out(x))
        return given if f.logit_scale == 1 else given * f.logit_scale

    def matrix() -> Tensor:
        weight = unembed.weight if out is None else unembed.weight @ out.weight
        return weight.detach() * f.logit_scale

    return {"unembed": logits, "unembedding": matrix}
