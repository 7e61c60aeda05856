"""The replacement model at one prompt: MLPs taken apart by transcoders, all else made linear.

Every MLP's output is written as ``sum_j a_j w_j + b_dec [+ x W_skip^T] + e``: active latents, a
constant, and an error term. An MLP without a transcoder is all error. What lies between is linear
in one of two ways:

* one prompt alone: attention patterns and scales of norms are those of the prompt
  (:mod:`patching.traces.frozen`). Then the stream is affine in tokens, latents and errors, and

      pre_t = sum over s of A[t, s] + constant_t                                exactly

* a pair of prompts: every nonlinear step has its average slope between the two runs
  (:mod:`patching.secant`), and sources count by their difference, clean minus corrupted. Then

      pre_t - pre_t' = sum over s of A[t, s]                                    exactly

  with what goes through queries and keys in it: why a head looks where it looks.

``A[t, s] = a_s w_s^T J W_enc[:, t]`` is the direct effect of a source on a target's pre-activation,
through residual stream, attention, and skip connections; never through another MLP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.places import Place
from patching.dictionaries.readings import check_fit, kinds_of, point_of, value_at
from patching.forward import Record
from patching.model import Model
from patching.norms import Norm, precise
from patching.ops import Ops, Point, Vjp
from patching.secant import SecantOps
from patching.traces import frozen
from tasks.errors import MethodError, SiteError, TaskError

Values = Mapping[Point, Tensor]


@dataclass(frozen=True)
class Layer:
    """One MLP at the prompt, or its difference between two prompts.

    error    what no latent writes ``[s, d]``
    amounts  of its latents ``[s, m]``; None without a transcoder
    pre      what goes into their activation function ``[s, m]``
    """

    dictionary: Dictionary | None
    error: Float[Tensor, "s d"]
    amounts: Float[Tensor, "s m"] | None = None
    pre: Float[Tensor, "s m"] | None = None

    def minus(self, other: Layer) -> Layer:
        """The difference to the same layer in another run."""
        if self.amounts is None or other.amounts is None:
            return replace(self, error=self.error - other.error)
        assert self.pre is not None
        assert other.pre is not None
        return replace(
            self,
            error=self.error - other.error,
            amounts=self.amounts - other.amounts,
            pre=self.pre - other.pre,
        )


@dataclass(frozen=True)
class Run:
    """One prompt's run, taken apart.

    tokens  what each token's vector puts into the stream ``[s, d]``
    final   the normed stream at the last position, before the unembedding ``[d]``
    """

    values: Values
    tokens: Float[Tensor, "s d"]
    layers: tuple[Layer, ...]
    final: Float[Tensor, " d"]
    logits: Float[Tensor, " v"]


@dataclass(frozen=True)
class Replaced:
    """A replacement model: what its nodes are, and how it is differentiated.

    ``amounts``, ``error``, ``pre`` of ``parts`` are those of the clean prompt, or of a pair the
    differences.
    """

    model: Model
    ids: Int[Tensor, " s"]
    clean: Run
    parts: Run
    ops: Ops
    paired: bool

    @classmethod
    def of(
        cls,
        model: Model,
        ids: Int[Tensor, " s"],
        dictionaries: Iterable[Dictionary],
        other: Int[Tensor, " s"] | None = None,
    ) -> Replaced:
        """Take one prompt apart, or with ``other`` the difference between two of one length.

        Raises:
            SiteError: a dictionary that is no transcoder of an MLP, or does not fit the model.
            MethodError: two of one MLP.
            TaskError: prompts of different lengths, or that the model cannot read.
        """
        placed = by_layer(model, dictionaries)
        check_ids(model, ids, other)
        clean = _run(model, ids, placed, frozen.KINDS if other is None else SecantOps.needs)
        if other is None:
            return cls(model, ids, clean, clean, frozen.FrozenOps(clean.values), paired=False)
        corrupted = _run(model, other, placed, SecantOps.needs)
        parts = Run(
            clean.values,
            clean.tokens - corrupted.tokens,
            tuple(a.minus(b) for a, b in zip(clean.layers, corrupted.layers, strict=True)),
            clean.final - corrupted.final,
            clean.logits,
        )
        return cls(model, ids, clean, parts, SecantOps(corrupted.values), paired=True)

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return len(self.ids)

    def many(self, rows: int) -> Ops:
        """The derivatives for so many copies of the prompt at once."""
        if isinstance(self.ops, SecantOps):
            return SecantOps(_copies(self.ops.other, rows))
        return frozen.FrozenOps(_copies(self.clean.values, rows))

    def reading(self, place: Place) -> Vjp:
        """The map from gradients at what an encoder reads to those at its point ``[b, s, d]``."""
        if place.kind not in ("mlp_normed", "mlp_scaled"):
            return lambda g: g
        norm, point = self.model.blocks[place.layer].ln2, point_of(place)
        norm = norm if place.kind == "mlp_normed" else _bare(norm)
        return self.ops.norm_vjp(norm, self.clean.values[point], point)

    def unembedding(self, tokens: Int[Tensor, " t"]) -> Float[Tensor, "t d"]:
        """Gradients of centred logits at the normed stream: ``W_U[:, y] - mean over y``."""
        weight = precise(self.model.unembedding)
        return weight[tokens] - weight.mean(0)


def by_layer(model: Model, dictionaries: Iterable[Dictionary]) -> dict[int, Dictionary]:
    """Transcoders by the layer of their MLP.

    Raises:
        SiteError, MethodError: see :meth:`Replaced.of`.
    """
    found: dict[int, Dictionary] = {}
    for each in dictionaries:
        if not (each.is_transcoder and each.writes.kind == "mlp_out"):
            raise SiteError(
                f"{each!r} is no transcoder of an MLP; attribution graphs replace MLPs: train one "
                f"with --kind transcoder, or score an autoencoder's latents with 'latents'"
            )
        check_fit(model, each)
        reads, layer = each.reads, each.writes.layer
        # What the MLP itself does to the stream would be missing from every direct effect.
        if reads.kind in ("mlp_out", "resid_post") or reads.layer != layer:
            raise SiteError(f"{each!r} reads {reads}, which does not come before its MLP's output")
        if layer in found:
            raise MethodError(f"two transcoders of m{layer} are given; give one for each MLP")
        found[layer] = each
    return found


def check_ids(model: Model, ids: Tensor, other: Tensor | None) -> None:
    """Refuse prompts that the model cannot read, or that are not one pair.

    Raises:
        TaskError: see above.
    """
    from patching.capture import Prompts

    rows = [ids.tolist()] if other is None else [ids.tolist(), other.tolist()]
    Prompts.of(rows).check(model)
    if other is not None and len(ids) != len(other):
        raise TaskError(
            f"the prompt has {len(ids)} tokens and the corrupted one {len(other)}; give two of one "
            f"length"
        )
    if other is not None and bool((ids == other).all()):
        raise TaskError("prompt and corrupted prompt have the same tokens; nothing differs")


@torch.no_grad()
def _run(model: Model, ids: Tensor, placed: Mapping[int, Dictionary], kinds: Iterable[str]) -> Run:
    wanted = dict.fromkeys((*kinds, *kinds_of(placed.values()), "mlp_out", "mlp_in", "final_in"))
    tap, batch = Record(wanted), ids[None]
    logits = model.run(batch, torch.ones_like(batch, dtype=torch.bool), tap)
    layers = tuple(
        _layer(model, placed.get(layer), layer, tap.values) for layer in range(len(model.blocks))
    )
    final = precise(model.final_norm(tap.values["final_in", len(model.blocks)]))[0]
    return Run(tap.values, _token_vectors(model, batch)[0], layers, final, precise(logits[0]))


def _layer(model: Model, dictionary: Dictionary | None, layer: int, values: Values) -> Layer:
    y = precise(values["mlp_out", layer])[0]
    if dictionary is None:
        return Layer(None, y)
    moved = dictionary.to(y)
    x = precise(value_at(model, moved.reads, values))[0]
    amounts = moved.amounts(x)
    error = y - amounts @ moved.W_dec - moved.b_dec
    if moved.skip is not None:
        error = error - x @ moved.skip.T
    return Layer(moved, error, amounts, moved.pre(x))


def _token_vectors(model: Model, batch: Int[Tensor, "1 s"]) -> Float[Tensor, "1 s d"]:
    """What tokens put into the stream: all of it but the vectors of positions."""
    frame = model.frame(torch.ones_like(batch, dtype=torch.bool))
    x, vectors = precise(model.embed(batch, frame)), model.parts.position_vectors
    return x if vectors is None else x - precise(vectors(frame.positions))


def _bare(norm: Norm) -> Norm:
    """A norm without weight and bias."""
    return replace(norm, affine=lambda _module: (None, None), weight_offset=0.0)


def _copies(values: Values, rows: int) -> dict[Point, Tensor]:
    return {p: value.expand(rows, *value.shape[1:]) for p, value in values.items()}


def encoder_columns(dictionary: Dictionary, units: Int[Tensor, " t"]) -> Float[Tensor, "t d_in"]:
    """Gradients of pre-activations at what the encoder reads."""
    columns = dictionary.W_enc[:, units].T
    return (
        columns if dictionary.gate is None else columns * dictionary.gate.r_mag.exp()[units, None]
    )


def as_ids(model: Model, tokens: Any) -> Int[Tensor, " s"]:
    """Token ids where the model is."""
    return torch.as_tensor(tokens, dtype=torch.long, device=model.device)
