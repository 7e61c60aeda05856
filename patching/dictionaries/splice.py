"""Runs in which what dictionaries take apart is put together again, whole or in part.

At every dictionary's place, in order of computation: the run's own value is encoded, and replaced
by ``x^ + e``. What of it is kept is the question: a splice without the error asks how good the
dictionary is; a run of some latents alone asks what they carry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.places import Place
from patching.dictionaries.readings import like_point, point_of, value_at
from patching.model import Model
from patching.norms import precise
from patching.ops import Point

Replace = Callable[[Dictionary, Tensor, Tensor], Tensor]
"""What is put at a place, from the dictionary, what it reads and what it takes apart."""


def reconstruction(dictionary: Dictionary, x: Tensor, _y: Tensor) -> Tensor:
    """``x^`` alone, without the error."""
    return dictionary.decode(dictionary.amounts(x), x)


@dataclass
class Splice:
    """A tap that replaces what dictionaries take apart.

    ``only`` are the columns where it does so, ``[b, s]``; None for all of them.
    """

    model: Model
    dictionaries: tuple[Dictionary, ...]
    replace: Replace = reconstruction
    only: Bool[Tensor, "b s"] | None = None
    _seen: dict[Point, Tensor] = field(default_factory=dict)

    def __call__(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """The value to go on with."""
        point = (kind, layer)
        self._seen[point] = value
        for each in self.dictionaries:
            if point_of(each.writes) == point:
                value = self._replaced(each, value)
                self._seen[point] = value
        return value

    def wants(self, kind: str, layer: int) -> bool:
        """The points that dictionaries read and write."""
        return any(
            point_of(place) == (kind, layer)
            for each in self.dictionaries
            for place in (each.reads, each.writes)
        )

    def _replaced(self, dictionary: Dictionary, value: Tensor) -> Tensor:
        y = value_at(self.model, dictionary.writes, {point_of(dictionary.writes): value})
        x = value_at(self.model, dictionary.reads, self._seen)
        made = self.replace(dictionary, x, y).to(value.dtype)
        if self.only is not None:
            made = torch.where(self.only[..., None], made, y)
        return like_point(dictionary.writes, made, self.model.anatomy.n_heads)


def held(
    model: Model, dictionary: Dictionary, values: Mapping[Point, Tensor]
) -> tuple[Float[Tensor, "b s d"], Float[Tensor, "b s m"]]:
    """What a run holds at a dictionary's place, and the latents' amounts, in float32 or better."""
    x, y = (
        precise(value_at(model, place, values)) for place in (dictionary.reads, dictionary.writes)
    )
    return y, dictionary.amounts(x)


def in_order(dictionaries: Iterable[Dictionary]) -> tuple[Dictionary, ...]:
    """Dictionaries in the order in which a run reaches what they take apart."""
    kinds = ("input", "resid_pre", "z", "attn_out", "resid_mid", "mlp_out", "resid_post")

    def rank(place: Place) -> tuple[int, int]:
        return place.layer, kinds.index(place.kind)

    return tuple(sorted(dictionaries, key=lambda each: rank(each.writes)))
