"""The forward pass through taken-apart blocks, with a tap at every named point.

A tap is called as ``tap(kind, layer, value)`` and returns the value to go on with, so reading,
replacing and differentiating are all taps. Kinds, in the order a block reaches them:

``resid_pre q k v k_read v_read q_rot k_rot scores pattern z attn_raw attn_out resid_mid mlp_in
mlp_pre mlp_up mlp_post mlp_raw mlp_out resid_post``, then ``final_in`` and ``logits``.

``k`` and ``v`` are per key/value head; ``k_read`` and ``v_read`` are their copies per query head,
which is where an edge into one query head lives. ``mlp_in`` is the MLP's own view of the residual
stream: replacing it does not touch the stream. ``attn_raw`` and ``mlp_raw`` stand before a
post-norm, ``attn_out`` and ``mlp_out`` are what is written to the stream. Some points exist only
in models that have the step behind them: ``scores_raw`` and ``logits_raw`` before a soft-cap,
``q_raw`` and ``k_raw`` before a norm of all heads together, ``q_cut k_cut v_cut`` before values are
cut off, ``q_turned`` and ``k_turned`` before norms that follow the rotary embedding.

A mixture of experts has no ``mlp_pre mlp_up mlp_post``, but ``router``, the weights of its experts
``[b, s, e]``; ``expert_out``, what each writes, times its weight ``[b, s, e, d]``; and where there
is one, ``shared_out`` of the expert that answers every token ``[b, s, d]``. An expert answers where
the router's weight is not zero, also when a tap has put it there, and everywhere for a tap that
wants gradients at the router. ``expert_out`` and ``shared_out`` add up to ``mlp_raw``; experts are
kept apart only for a tap that wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from patching import mixture
from patching.blocks import PORTS, Block
from patching.frame import Frame
from patching.norms import Norm
from patching.ops import PLAIN, Ops, Point

Tap = Callable[[str, int, Tensor], Tensor]
Past = Mapping[Point, Tensor]


def no_tap(kind: str, layer: int, value: Tensor) -> Tensor:  # noqa: ARG001
    """Let every value pass."""
    return value


def wants(tap: Tap, kind: str, layer: int) -> bool:
    """Whether a tap has to see a point that is costly to make.

    A tap says so by a method ``wants(kind, layer)``; one without it sees everything.
    """
    if tap is no_tap:
        return False
    says: Callable[[str, int], bool] | None = getattr(tap, "wants", None)
    return True if says is None else says(kind, layer)


class Record:
    """A tap that keeps the values of some kinds of points."""

    def __init__(self, kinds: Iterable[str]) -> None:
        self.kinds = frozenset(kinds)
        self.values: dict[Point, Tensor] = {}

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """Keep the value and let it pass."""
        if kind in self.kinds:
            self.values[kind, layer] = value
        return value

    def wants(self, kind: str, layer: int) -> bool:  # noqa: ARG002
        """The kinds it keeps."""
        return kind in self.kinds


@dataclass(frozen=True)
class Write:
    """A tap that replaces the values of the points it has a function for."""

    edits: Mapping[Point, Callable[[Tensor], Tensor]]

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """The edited value, or the value itself."""
        edit = self.edits.get((kind, layer))
        return value if edit is None else edit(value)

    def wants(self, kind: str, layer: int) -> bool:
        """The points it edits."""
        return (kind, layer) in self.edits


@dataclass(frozen=True)
class Chain:
    """Taps applied one after the other."""

    taps: tuple[Tap, ...]

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """The value behind the last tap."""
        for each in self.taps:
            value = each(kind, layer, value)
        return value

    def wants(self, kind: str, layer: int) -> bool:
        """What any of them wants."""
        return any(wants(each, kind, layer) for each in self.taps)


def chain(*taps: Tap) -> Tap:
    """Taps applied one after the other."""
    return Chain(taps)


def read(
    block: Block, port: str, n: Float[Tensor, "b s d"], tap: Tap = no_tap, ops: Ops = PLAIN
) -> Float[Tensor, "b s units e"]:
    """Queries, keys or values from the normed residual stream, before rotary embedding."""
    layer, out = block.layer, block.project(port, n)
    if port in block.whole_norms:
        raw = tap(f"{port}_raw", layer, out.flatten(-2))
        normed = ops.norm(block.whole_norms[port], raw, (f"{port}_raw", layer))
        out = normed.unflatten(-1, out.shape[-2:])
    if block.clip is not None:
        out = tap(f"{port}_cut", layer, out)
        out = ops.activation(block.cut_off, out, (f"{port}_cut", layer))
    return tap(port, layer, out)


def attend(
    block: Block,
    n: Float[Tensor, "b s d"],
    frame: Frame,
    tap: Tap = no_tap,
    ops: Ops = PLAIN,
    past: Past | None = None,
) -> Float[Tensor, "b s h e"]:
    """Head outputs ``z`` from the normed residual stream."""
    layer = block.layer
    q, k, v = (read(block, port, n, tap, ops) for port in PORTS)
    k, v = block.share(k), block.share(v)
    k, v = tap("k_read", layer, k), tap("v_read", layer, v)
    return head_outputs(block, q, k, v, frame, tap, ops, past)


def head_outputs(
    block: Block,
    q: Float[Tensor, "b q h e"],
    k: Float[Tensor, "b k h e"],
    v: Float[Tensor, "b k h e"],
    frame: Frame,
    tap: Tap = no_tap,
    ops: Ops = PLAIN,
    past: Past | None = None,
    key_frame: Frame | None = None,
    heads: Int[Tensor, " h"] | None = None,
) -> Float[Tensor, "b q h e"]:
    """Head outputs from queries, and from keys and values already shared out by query head.

    With ``past``, keys and values of earlier positions (points ``k_rot`` and ``v_read``) are put
    before these. ``key_frame`` is the frame of the keys where there are more of them than queries,
    ``heads`` which heads these are where they are not all.
    """
    layer = block.layer
    q = _placed(block, "q", block.q_norm, q, frame, tap, ops, heads)
    k = _placed(block, "k", block.k_norm, k, key_frame or frame, tap, ops, heads)
    if frame.query_scale is not None:
        q = q * frame.query_scale[:, :, None, None]
    q, k = tap("q_rot", layer, q), tap("k_rot", layer, k)
    if past is not None:
        k = torch.cat([past["k_rot", layer], k], dim=1)
        v = torch.cat([past["v_read", layer], v], dim=1)
    scores = ops.scores(q, k, block)
    if block.softcap is not None:
        scores = tap("scores_raw", layer, scores)
        scores = ops.softcap(scores, block.softcap, ("scores_raw", layer))
    if block.key_bias is not None:
        bias = block.key_bias(frame.keys).to(scores)
        scores = scores + (bias if heads is None else bias[:, heads])[:, :, None]
    lowest = torch.finfo(scores.dtype).min
    scores = scores.masked_fill(~frame.visible(block.window), lowest)
    scores = tap("scores", layer, scores)
    sinks = block.sinks if block.sinks is None or heads is None else block.sinks[heads]
    pattern = tap("pattern", layer, ops.softmax(scores, ("scores", layer), sinks))
    return tap("z", layer, ops.mix(pattern, v, ("z", layer)))


def _placed(
    block: Block,
    port: str,
    norm: Norm | None,
    x: Float[Tensor, "b s h e"],
    frame: Frame,
    tap: Tap,
    ops: Ops,
    heads: Int[Tensor, " h"] | None,
) -> Float[Tensor, "b s h e"]:
    """Queries or keys with their norm and their rotary embedding, in the model's order."""
    if norm is None:
        return block.turn(x, frame)
    norm = norm if heads is None else norm.of_heads(heads)
    if not block.norms_turned:
        at = (port if port == "q" else "k_read", block.layer)
        return block.turn(ops.norm(norm, x, at), frame)
    turned = tap(f"{port}_turned", block.layer, block.turn(x, frame))
    return ops.norm(norm, turned, (f"{port}_turned", block.layer))


def write_attention(
    block: Block, z: Float[Tensor, "b s h e"], tap: Tap = no_tap, ops: Ops = PLAIN
) -> Float[Tensor, "b s d"]:
    """What the heads together write to the residual stream."""
    layer = block.layer
    out = tap("attn_raw", layer, block.attention_output(z))
    if block.ln1_post is not None:
        out = ops.norm(block.ln1_post, out, ("attn_raw", layer))
    return tap("attn_out", layer, out)


def write_mlp(
    block: Block, x: Float[Tensor, "b s d"], tap: Tap = no_tap, ops: Ops = PLAIN
) -> Float[Tensor, "b s d"]:
    """What the MLP writes to the residual stream when it reads ``x`` there."""
    layer = block.layer
    x = tap("mlp_in", layer, x.view_as(x))
    n = ops.norm(block.ln2, x, ("mlp_in", layer))
    part = _neurons if block.experts is None else _experts
    out = tap("mlp_raw", layer, part(block, n, tap, ops))
    if block.ln2_post is not None:
        out = ops.norm(block.ln2_post, out, ("mlp_raw", layer))
    return tap("mlp_out", layer, out)


def _neurons(block: Block, n: Float[Tensor, "b s d"], tap: Tap, ops: Ops) -> Tensor:
    """What the neurons of an ordinary MLP write."""
    layer = block.layer
    assert block.act is not None
    assert block.up is not None
    if block.gate is None:
        pre = tap("mlp_pre", layer, block.up(n))
        post = ops.activation(block.act, pre, ("mlp_pre", layer))
    else:
        pre = tap("mlp_pre", layer, block.gate(n))
        up = tap("mlp_up", layer, block.up(n))
        post = ops.gated(block.act, pre, up, ("mlp_pre", layer))
    return block.neurons_output(tap("mlp_post", layer, post))


def _experts(block: Block, n: Float[Tensor, "b s d"], tap: Tap, ops: Ops) -> Tensor:
    """What a mixture of experts writes."""
    layer, experts = block.layer, block.experts
    assert experts is not None
    routed = ops.route(experts, n.flatten(0, -2), block)
    weights = tap("router", layer, routed.weights.unflatten(0, n.shape[:-1]))
    answers_routers = weights.requires_grad and wants(tap, "router", layer)
    answers = mixture.answers(
        ops, routed, weights.flatten(0, -2), block.write_scale, answers_routers
    )
    if wants(tap, "expert_out", layer):
        out = mixture.added_up(tap("expert_out", layer, mixture.kept_apart(answers, weights, n)))
    else:
        out = mixture.together(answers, n)
    if experts.shared is None:
        return out
    shared = mixture.scaled(ops.shared_expert(routed), block.write_scale)
    return out + tap("shared_out", layer, shared.view_as(n))


def finish_block(
    block: Block,
    x: Float[Tensor, "b s d"],
    attn_out: Float[Tensor, "b s d"],
    tap: Tap = no_tap,
    ops: Ops = PLAIN,
) -> Float[Tensor, "b s d"]:
    """The residual stream after a block, from the stream before it and its attention's write."""
    layer = block.layer
    if block.anatomy.parallel:
        out = (write_mlp(block, x, tap, ops) + attn_out) + x
        return tap("resid_post", layer, out)
    mid = tap("resid_mid", layer, x + attn_out)
    return tap("resid_post", layer, mid + write_mlp(block, mid, tap, ops))


def run_block(
    block: Block,
    x: Float[Tensor, "b s d"],
    frame: Frame,
    tap: Tap = no_tap,
    ops: Ops = PLAIN,
    past: Past | None = None,
) -> Float[Tensor, "b s d"]:
    """One whole block."""
    layer = block.layer
    x = tap("resid_pre", layer, x)
    n = ops.norm(block.ln1, x, ("resid_pre", layer))
    z = attend(block, n, frame, tap, ops, past)
    return finish_block(block, x, write_attention(block, z, tap, ops), tap, ops)


def run_block_end(
    block: Block,
    x: Float[Tensor, "b s d"],
    frame: Frame,
    tap: Tap = no_tap,
    past: Past | None = None,
) -> Float[Tensor, "b 1 d"]:
    """One whole block at the last position only, from the stream at all positions.

    The tap sees one position everywhere but at keys and values, which are those of all positions.
    """
    layer = block.layer
    n = block.ln1(x)
    x = tap("resid_pre", layer, x[:, -1:])
    q, k, v = read(block, "q", n[:, -1:], tap), read(block, "k", n, tap), read(block, "v", n, tap)
    k, v = block.share(k), block.share(v)
    k, v = tap("k_read", layer, k), tap("v_read", layer, v)
    end = frame.rows(frame.first + n.shape[1] - 1)
    z = head_outputs(block, q, k, v, end, tap, past=past, key_frame=frame)
    return finish_block(block, x, write_attention(block, z, tap), tap)
