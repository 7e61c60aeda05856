"""The forward pass through taken-apart blocks, with a tap at every named point.

A tap is called as ``tap(kind, layer, value)`` and returns the value to go on with, so reading,
replacing and differentiating are all taps. Kinds, in the order a block reaches them:

``resid_pre q k v k_read v_read q_rot k_rot scores pattern z attn_raw attn_out resid_mid mlp_in
mlp_pre mlp_up mlp_post mlp_raw mlp_out resid_post``, then ``final_in`` and ``logits``.

``k`` and ``v`` are per key/value head; ``k_read`` and ``v_read`` are their copies per query head,
which is where an edge into one query head lives. ``mlp_in`` is the MLP's own view of the residual
stream: replacing it does not touch the stream. ``attn_raw`` and ``mlp_raw`` stand before a
post-norm, ``attn_out`` and ``mlp_out`` are what is written to the stream. ``scores_raw`` and
``logits_raw`` exist where the model has a soft-cap, and stand before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from patching.blocks import Block, rotate
from patching.frame import Frame
from patching.ops import PLAIN, Ops, Point

Tap = Callable[[str, int, Tensor], Tensor]
Past = Mapping[Point, Tensor]


def no_tap(kind: str, layer: int, value: Tensor) -> Tensor:  # noqa: ARG001
    """Let every value pass."""
    return value


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


@dataclass(frozen=True)
class Write:
    """A tap that replaces the values of the points it has a function for."""

    edits: Mapping[Point, Callable[[Tensor], Tensor]]

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """The edited value, or the value itself."""
        edit = self.edits.get((kind, layer))
        return value if edit is None else edit(value)


def chain(*taps: Tap) -> Tap:
    """Taps applied one after the other."""

    def tap(kind: str, layer: int, value: Tensor) -> Tensor:
        for each in taps:
            value = each(kind, layer, value)
        return value

    return tap


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
    q = tap("q", layer, block.queries(n))
    k = tap("k", layer, block.keys(n))
    v = tap("v", layer, block.values(n))
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
) -> Float[Tensor, "b q h e"]:
    """Head outputs from queries, and from keys and values already shared out by query head.

    With ``past``, keys and values of earlier positions (points ``k_rot`` and ``v_read``) are put
    before these. ``key_frame`` is the frame of the keys where there are more of them than queries.
    """
    layer = block.layer
    if block.q_norm is not None and block.k_norm is not None:
        q = ops.norm(block.q_norm, q, ("q", layer))
        k = ops.norm(block.k_norm, k, ("k_read", layer))
    q = tap("q_rot", layer, rotate(q, frame))
    k = tap("k_rot", layer, rotate(k, key_frame or frame))
    if past is not None:
        k = torch.cat([past["k_rot", layer], k], dim=1)
        v = torch.cat([past["v_read", layer], v], dim=1)
    scores = ops.scores(q, k, block)
    if block.softcap is not None:
        scores = tap("scores_raw", layer, scores)
        scores = ops.softcap(scores, block.softcap, ("scores_raw", layer))
    lowest = torch.finfo(scores.dtype).min
    scores = scores.masked_fill(~frame.visible(block.window), lowest)
    scores = tap("scores", layer, scores)
    pattern = tap("pattern", layer, ops.softmax(scores, ("scores", layer)))
    return tap("z", layer, ops.mix(pattern, v, ("z", layer)))


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
    if block.gate is None:
        pre = tap("mlp_pre", layer, block.up(n))
        post = ops.activation(block.act, pre, ("mlp_pre", layer))
    else:
        pre = tap("mlp_pre", layer, block.gate(n))
        up = tap("mlp_up", layer, block.up(n))
        post = ops.gated(block.act, pre, up, ("mlp_pre", layer))
    out = tap("mlp_raw", layer, block.down(tap("mlp_post", layer, post)))
    if block.ln2_post is not None:
        out = ops.norm(block.ln2_post, out, ("mlp_raw", layer))
    return tap("mlp_out", layer, out)


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
    q = tap("q", layer, block.queries(n[:, -1:]))
    k = block.share(tap("k", layer, block.keys(n)))
    v = block.share(tap("v", layer, block.values(n)))
    k, v = tap("k_read", layer, k), tap("v_read", layer, v)
    end = frame.rows(frame.first + n.shape[1] - 1)
    z = head_outputs(block, q, k, v, end, tap, past=past, key_frame=frame)
    return finish_block(block, x, write_attention(block, z, tap), tap)
