"""What parts of a model add to its logits directly, with nothing after them in between.

Let ``x`` be the stream that the final norm reads at the last position, ``s`` its scale there, ``w``
the norm's weight and ``W_U`` the unembedding. A part that writes ``y`` into ``x`` adds

    direct(t) = (w * centre(y) / s(x)) . (W_U[t] - mean over words of W_U)

to the logit of word ``t``, in logits (before a soft-cap, where a model has one). The norm's scale
is held as it is in that run. What is added to the logits of all words by the same amount changes no
probability and is left out, so the numbers of one part have mean zero over the vocabulary. Summed
over all parts, with the biases, they are the logits minus their mean (direct logit attribution,
Elhage et al. 2021; Wang et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from patching.forward import Record
from patching.model import Model
from patching.nodes.heads import head_writes
from patching.nodes.neurons import amounts, directions
from patching.norms import precise
from patching.ops import Point
from patching.runs import Batch, name_overflow
from patching.sites import Site
from tasks.errors import SiteError

KINDS = ("input", "z", "attn_raw", "mlp_out", "mlp_post", "mlp_raw", "final_in")
PARTS = ("input", "head", "mlp", "neuron")
"""Kinds of sites that write to the stream."""


class AtTheEnd(Record):
    """A tap that keeps the last position of the values of some kinds of points."""

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """Keep a copy of the last row, so that the others are free."""
        if kind in self.kinds:
            row = value if kind in ("final_in", "logits") else value[:, -1:]
            self.values[kind, layer] = row.clone()
        return value


@torch.no_grad()
def writes_at_end(
    model: Model, batch: Batch, run: str, sites: Sequence[Site]
) -> tuple[Float[Tensor, "b v"], Float[Tensor, "b sites d"], Float[Tensor, "b d"]]:
    """Logits of a run, what each site writes at the last position, and the final stream there.

    Raises:
        SiteError: a site that writes nothing to the stream.
        MethodError: the logits are not finite.
    """
    if odd := [site for site in sites if site.kind not in PARTS]:
        raise SiteError(f"'{odd[0]}' writes nothing to the stream; parts are {', '.join(PARTS)}")
    tap = AtTheEnd(KINDS)
    logits = model.run(batch.tokens(run), batch.mask, tap)
    name_overflow(logits, tap.values)
    final = tap.values["final_in", model.anatomy.n_layers]
    rows = [_write(model, tap.values, site) for site in sites]
    empty = precise(final).new_zeros(len(final), 0, final.shape[-1])
    return logits, torch.stack(rows, dim=1) if rows else empty, final


def read_out(
    model: Model, writes: Float[Tensor, "b p d"], final: Float[Tensor, "b d"]
) -> Float[Tensor, "b p d"]:
    """What the unembedding reads of writes: ``w * centre(y) / s(x)``."""
    norm = model.final_norm
    weight = norm.weight.to(writes.device)
    return norm.centre(writes) / norm.scale(final)[:, None] * precise(weight)


def unembedded(model: Model, read: Float[Tensor, "*b d"]) -> Float[Tensor, "*b v"]:
    """Direct effects on the logits of all words, of which each part's have mean zero."""
    effects = read.to(model.dtype) @ model.unembedding.T
    return effects - effects.mean(-1, keepdim=True)


def _write(model: Model, values: dict[Point, Tensor], site: Site) -> Float[Tensor, "b d"]:
    """What a site writes at the last position, in float32 or better."""
    if site.kind == "input":
        return precise(values["input", 0])[:, 0]
    block = model.blocks[site.layer]
    if site.kind == "head":
        z = values["z", site.layer]
        alone = torch.zeros_like(z)
        alone[:, :, site.unit] = z[:, :, site.unit]
        # Heads are few and the last row is one: all of the layer's writes cost next to nothing.
        return precise(head_writes(block, alone, values["attn_raw", site.layer])[:, site.unit, 0])
    if site.kind == "mlp":
        return precise(values["mlp_out", site.layer])[:, 0]
    post, raw = values["mlp_post", site.layer], values["mlp_raw", site.layer]
    amount = amounts(block, precise(post), raw)[:, 0, site.unit]
    return amount[:, None] * directions(block, post)[site.unit]
