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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.places import Place
from patching.dictionaries.readings import check_fit, kinds_of, point_of, value_at
from patching.dictionaries.splice import in_order
from patching.forward import Record
from patching.model import Model
from patching.norms import Norm, precise
from patching.ops import Ops, Point, Vjp
from patching.secant import SecantOps
from patching.traces import frozen
from patching.traces.checks import by_layer, check_ids
from tasks.errors import SiteError

Values = Mapping[Point, Tensor]


@dataclass(frozen=True)
class Layer:
    """One place at the prompt, or its difference between two prompts.

    place    what is taken apart
    error    what no latent writes ``[s, d]``
    amounts  of its latents ``[s, m]``; None without a transcoder
    pre      what goes into their activation function ``[s, m]``
    """

    place: Place
    dictionary: Dictionary | None
    error: Float[Tensor, "s d"]
    amounts: Float[Tensor, "s m"] | None = None
    pre: Float[Tensor, "s m"] | None = None

    @property
    def name(self) -> str:
        """As names of latents have it: ``m3``, ``resid_post.3``."""
        if self.dictionary is not None:
            return self.dictionary.name
        return f"m{self.place.layer}" if self.place.kind == "mlp_out" else str(self.place)

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
    differences, and ``other`` is the corrupted run.
    """

    model: Model
    ids: Int[Tensor, " s"]
    clean: Run
    parts: Run
    ops: Ops
    paired: bool
    other: Run | None = None

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
        every = [(Place("mlp_out", i), placed.get(i)) for i in range(len(model.blocks))]
        if other is not None:
            return cls._pair(model, ids, other, every)
        clean = _run(model, ids, every, frozen.KINDS)
        return cls(model, ids, clean, clean, frozen.FrozenOps(clean.values), paired=False)

    @classmethod
    def cut(
        cls,
        model: Model,
        ids: Int[Tensor, " s"],
        other: Int[Tensor, " s"],
        dictionaries: Iterable[Dictionary],
    ) -> Replaced:
        """Take the difference between two prompts apart at the places of any dictionaries alone.

        All else stays the model's own, with its average slopes; no path leads through a place.

        Raises:
            SiteError: a dictionary that does not fit, or scales what it reads at run time.
            TaskError: as for :meth:`of`.
        """
        check_ids(model, ids, other)
        placed = in_order(dictionaries)
        for each in placed:
            check_fit(model, each)
            if each.scaling != "none":
                raise SiteError(
                    f"{each!r} scales what it reads by {each.scaling}, so no average slope leads "
                    f"into its latents; edges need a dictionary without that"
                )
        return cls._pair(model, ids, other, [(each.writes, each) for each in placed])

    @classmethod
    def _pair(
        cls,
        model: Model,
        ids: Int[Tensor, " s"],
        other: Int[Tensor, " s"],
        placed: Sequence[tuple[Place, Dictionary | None]],
    ) -> Replaced:
        clean, corrupted = (_run(model, each, placed, SecantOps.needs) for each in (ids, other))
        parts = Run(
            clean.values,
            clean.tokens - corrupted.tokens,
            tuple(a.minus(b) for a, b in zip(clean.layers, corrupted.layers, strict=True)),
            clean.final - corrupted.final,
            clean.logits,
        )
        ops = SecantOps(corrupted.values)
        return cls(model, ids, clean, parts, ops, paired=True, other=corrupted)

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


@torch.no_grad()
def _run(
    model: Model,
    ids: Tensor,
    placed: Sequence[tuple[Place, Dictionary | None]],
    kinds: Iterable[str],
) -> Run:
    read = kinds_of(each for _, each in placed if each is not None)
    written = (point_of(place)[0] for place, _ in placed)
    wanted = dict.fromkeys((*kinds, *read, *written, "final_in"))
    tap, batch = Record(wanted), ids[None]
    logits = model.run(batch, torch.ones_like(batch, dtype=torch.bool), tap)
    layers = tuple(_layer(model, place, each, tap.values) for place, each in placed)
    final = precise(model.final_norm(tap.values["final_in", len(model.blocks)]))[0]
    return Run(tap.values, _token_vectors(model, batch)[0], layers, final, precise(logits[0]))


def _layer(model: Model, place: Place, dictionary: Dictionary | None, values: Values) -> Layer:
    y = precise(value_at(model, place, values))[0]
    if dictionary is None:
        return Layer(place, None, y)
    moved = dictionary.to(y)
    x = precise(value_at(model, moved.reads, values))[0]
    amounts = moved.amounts(x)
    error = y - amounts @ moved.W_dec - moved.b_dec
    if moved.skip is not None:
        error = error - x @ moved.skip.T
    return Layer(place, moved, error, amounts, moved.pre(x))


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
