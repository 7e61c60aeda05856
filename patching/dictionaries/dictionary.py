"""A sparse dictionary: an activation as a sum of few directions, and what they leave over.

    pre = (n(x) - b_in) W_enc + b_enc            n(x) is x, or x centred and scaled at run time
    f   = act(pre) >= 0
    x^  = sum_j f_j w_j + b_dec                  w_j = W_dec[j], times the scale that n took out
    e   = y - x^                                 the error term; y is what is taken apart

A sparse autoencoder (SAE) reads what it takes apart (``y = x``); a transcoder reads an MLP's input
``x`` and takes apart its output ``y``, a skip transcoder adds ``x W_skip^T`` to ``x^``. What is
left of ``y`` is in the error, so that ``y = sum_j f_j w_j + constant + e`` holds exactly.

Sources: Cunningham et al. 2023 (ReLU); Rajamanoharan et al. 2024 (gated, JumpReLU); Gao et al. 2024
(TopK); Dunefsky et al. 2024 (transcoders); Paulo et al. 2025 (skip transcoders).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from patching.dictionaries.places import Place
from tasks.errors import FormatError

ACTIVATIONS = ("relu", "topk", "jumprelu", "gated")
SCALINGS = ("none", "constant_norm_rescale", "layer_norm")
LAYER_NORM_EPS = 1e-5


@dataclass(frozen=True)
class Gate:
    """A gated encoder: ``f = 1[x W_enc + b_gate > 0] relu(x W_enc exp(r_mag) + b_mag)``."""

    b_gate: Float[Tensor, " m"]
    b_mag: Float[Tensor, " m"]
    r_mag: Float[Tensor, " m"]


@dataclass(frozen=True)
class Scaled:
    """Activations as an encoder reads them, and what turns a reconstruction back.

    ``x^ = inner * scale + offset``
    """

    inner: Float[Tensor, "*b d"]
    scale: Float[Tensor, "*b 1"] | None = None
    offset: Float[Tensor, "*b 1"] | None = None


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Directions of one place, and how much of each an activation has.

    >>> made = circuits.train_dictionary(model, latents=64, k=8, steps=40, tokens=2000, n=8)
    >>> made.dictionary
    Dictionary(topk SAE of resid_post.1: 64 latents, width 128, k 8)

    reads       where the encoder reads
    writes      what is taken apart; the same place for an SAE
    activation  ``relu``, ``topk`` (of ReLU), ``jumprelu`` or ``gated``
    b_in        taken off before encoding ``[d_in]``
    threshold   of JumpReLU ``[m]``
    k           of TopK
    skip        ``[d_out, d_in]``
    scaling     ``constant_norm_rescale``: ``x sqrt(d) / |x|``; ``layer_norm``: centred, divided by
                the unbiased standard deviation
    origin      format, file, SHA-256 and whatever else its source says
    """

    reads: Place
    writes: Place
    activation: str
    W_enc: Float[Tensor, "d_in m"]
    b_enc: Float[Tensor, " m"]
    W_dec: Float[Tensor, "m d_out"]
    b_dec: Float[Tensor, " d_out"]
    b_in: Float[Tensor, " d_in"]
    threshold: Float[Tensor, " m"] | None = None
    k: int | None = None
    gate: Gate | None = None
    skip: Float[Tensor, "d_out d_in"] | None = None
    scaling: str = "none"
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if faults := self._faults():
            raise FormatError(f"this dictionary contradicts itself: {'; '.join(faults)}")

    def _faults(self) -> list[str]:
        (d_in, m), d_out = self.W_enc.shape, self.W_dec.shape[-1]
        expected = {
            "b_enc": (self.b_enc, (m,)),
            "W_dec": (self.W_dec, (m, d_out)),
            "b_dec": (self.b_dec, (d_out,)),
            "b_in": (self.b_in, (d_in,)),
            "threshold": (self.threshold, (m,)),
            "skip": (self.skip, (d_out, d_in)),
        }
        faults = [
            f"{name} has the shape {tuple(value.shape)}, not {shape}"
            for name, (value, shape) in expected.items()
            if value is not None and tuple(value.shape) != shape
        ]
        needs = {"topk": ("k",), "jumprelu": ("threshold",), "gated": ("gate",)}
        faults += [
            f"a {self.activation} dictionary needs {name}"
            for name in needs.get(self.activation, ())
            if getattr(self, name) is None
        ]
        if self.k is not None and not 1 <= self.k <= m:
            faults.append(f"k is {self.k}, and there are {m} latents")
        if self.scaling != "none" and self.is_transcoder:
            faults.append(f"a transcoder cannot scale its input by {self.scaling}")
        tensors = (self.W_enc, self.b_enc, self.W_dec, self.b_dec, self.b_in)
        if not all(bool(torch.isfinite(value).all()) for value in tensors):
            faults.append("it holds numbers that are not finite")
        return faults

    @property
    def n_latents(self) -> int:
        """How many directions there are."""
        return self.W_enc.shape[1]

    @property
    def is_transcoder(self) -> bool:
        """Whether it reads one place and takes another apart."""
        return self.reads != self.writes

    @property
    def name(self) -> str:
        """The place of its latents in names of sites: ``resid_post.3``, of a transcoder ``m3``."""
        return f"m{self.writes.layer}" if self.is_transcoder else str(self.writes)

    def latent(self, number: int) -> str:
        """A latent's name as a site: ``resid_post.3.f17``, ``m3.f17``."""
        return f"{self.name}.f{number}"

    @property
    def error(self) -> str:
        """The error term's name as a site."""
        return f"{self.name}.err"

    def to(self, like: Tensor) -> Dictionary:
        """The same numbers where, and in the type in which, another tensor is."""
        moved: dict[str, Any] = {
            f.name: value.to(like)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        if self.gate is not None:
            moved["gate"] = Gate(*(getattr(self.gate, f.name).to(like) for f in fields(Gate)))
        return replace(self, **moved)

    def scaled(self, x: Float[Tensor, "*b d"]) -> Scaled:
        """What the encoder sees of ``x``."""
        if self.scaling == "none":
            return Scaled(x)
        if self.scaling == "constant_norm_rescale":
            scale = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
            return Scaled(x / scale, scale)
        offset = x.mean(-1, keepdim=True)
        centred = x - offset
        scale = centred.std(dim=-1, keepdim=True)
        return Scaled(centred / (scale + LAYER_NORM_EPS), scale, offset)

    def pre(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b m"]:
        """What goes into the activation function; of a gated encoder, its magnitudes' part."""
        inner = self.scaled(x).inner - self.b_in
        if self.gate is not None:
            return inner @ self.W_enc * self.gate.r_mag.exp() + self.gate.b_mag
        return inner @ self.W_enc + self.b_enc

    def encode(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b m"]:
        """How much of every direction there is in ``x``: never below zero."""
        pre = self.pre(x)
        if self.gate is not None:
            inner = self.scaled(x).inner - self.b_in
            return pre.relu() * (inner @ self.W_enc + self.gate.b_gate > 0)
        return self.activate(pre)

    def activate(self, pre: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
        """The activation function, of all but gated encoders."""
        if self.activation == "topk":
            assert self.k is not None
            best = pre.topk(self.k, dim=-1)
            return torch.zeros_like(pre).scatter(-1, best.indices, best.values.relu())
        if self.activation == "jumprelu":
            assert self.threshold is not None
            return pre.relu() * (pre > self.threshold)
        return pre.relu()

    def amounts(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b m"]:
        """How much of each row of ``W_dec`` is in what is taken apart: ``f`` times the scale.

        Where the encoder scales its input at run time this is ``f_j sigma(x)``, so that the
        directions stay those of ``W_dec`` and sums over latents stay exact.
        """
        f, scale = self.encode(x), self.scaled(x).scale
        return f if scale is None else f * scale

    def decode(
        self, amounts: Float[Tensor, "*b m"], x: Float[Tensor, "*b d"]
    ) -> Float[Tensor, "*b d"]:
        """The reconstruction ``x^`` from :meth:`amounts` and what was read."""
        made = amounts @ self.W_dec
        scaled = self.scaled(x)
        made = made + (self.b_dec if scaled.scale is None else self.b_dec * scaled.scale)
        made = made if scaled.offset is None else made + scaled.offset
        return made if self.skip is None else made + x @ self.skip.T

    def __repr__(self) -> str:
        kind = "transcoder" if self.is_transcoder else "SAE"
        where = f"{self.reads} to {self.writes}" if self.is_transcoder else str(self.writes)
        shape = f"{self.n_latents} latents, width {self.W_dec.shape[1]}"
        k = "" if self.k is None else f", k {self.k}"
        return f"Dictionary({self.activation} {kind} of {where}: {shape}{k})"
