"""Changes of a dictionary's latents while a model runs: set, scaled, clamped, added to, taken out.

    x <- x + (v - a_j) w_j          a_j the latent's amount, v the one it is to have

The error term stays, and nothing is encoded again after the edit. Three tiers say where, as in
Breaking Bad Tokens (arXiv 2505.14536): ``always``; on all tokens of a ``text`` in which the latent
fires; only on a ``token`` on which it fires. Of a text that is being written, later tokens count as
soon as they are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.dictionaries.dictionary import Dictionary
from patching.dictionaries.readings import check_fit, like_point, point_of, value_at
from patching.model import Model
from patching.norms import precise
from patching.ops import Point

TIERS = ("always", "text", "token")


@dataclass(frozen=True)
class LatentChange:
    """A change of one latent's amount; ``new`` maps amounts to those it is to have.

    point   where the dictionary writes
    reads   the point from which its encoder reads
    where   a token index or a named position; None for all positions
    """

    point: Point
    reads: Point
    amount: Callable[[Tensor], Float[Tensor, "b s"]]
    added: Callable[[Float[Tensor, "b s"]], Tensor]
    new: Callable[[Float[Tensor, "b s"]], Float[Tensor, "b s"]]
    tier: str = "always"
    where: int | str | None = None

    @classmethod
    def of(
        cls,
        model: Model,
        dictionary: Dictionary,
        latent: int,
        new: Callable[[Tensor], Tensor],
        tier: str = "always",
        where: int | str | None = None,
    ) -> LatentChange:
        """The change of one latent of a dictionary.

        Raises:
            SiteError: the dictionary does not fit the model.
        """
        check_fit(model, dictionary)
        weight = next(iter(model.hf.parameters()))
        moved = dictionary.to(precise(weight[:0]))
        reads, writes = moved.reads, moved.writes

        def amount(value: Tensor) -> Float[Tensor, "b s"]:
            x = precise(value_at(model, reads, {point_of(reads): value}))
            return moved.amounts(x)[..., latent]

        def added(change: Float[Tensor, "b s"]) -> Tensor:
            parts = change[..., None] * moved.W_dec[latent]
            return like_point(writes, parts, model.anatomy.n_heads)

        return cls(point_of(writes), point_of(reads), amount, added, new, tier, where)

    def changed(
        self,
        value: Tensor,
        read: Tensor,
        fired: Bool[Tensor, " b"],
        seen: Bool[Tensor, "b s"],
        columns: Int[Tensor, " b"] | None,
    ) -> Tensor:
        """The value with the change made, where the tier says.

        ``read`` is what the encoder reads, ``fired`` whether the latent has fired earlier in the
        text (updated in place), ``seen`` which positions are text.
        """
        amount = self.amount(read)
        firing = (amount > 0) & seen
        fired |= firing.any(-1)
        where = seen
        if self.tier == "token":
            where = firing
        elif self.tier == "text":
            where = seen & fired[:, None]
        if columns is not None:
            rows = torch.arange(len(value), device=value.device)
            one = torch.zeros_like(where)
            one[rows, columns] = True
            where = where & one
        change = torch.where(where, self.new(amount) - amount, 0.0)
        return (precise(value) + self.added(change)).to(value.dtype)


def altered(
    factor: float = 1.0, add: float = 0.0, low: float | None = None, high: float | None = None
) -> Callable[[Tensor], Tensor]:
    """``factor * a + add``, kept within bounds."""

    def new(amount: Tensor) -> Tensor:
        value = amount * factor + add
        return value if low is None and high is None else value.clamp(low, high)

    return new


@dataclass
class LatentState:
    """What changes of latents keep over one run and what is written after it."""

    mask: Bool[Tensor, "b s"]
    values: dict[Point, Tensor]
    fired: dict[int, Bool[Tensor, " b"]]

    @classmethod
    def of(cls, mask: Bool[Tensor, "b s"]) -> LatentState:
        """Before the run of a batch."""
        return cls(mask, {}, {})

    def apply(
        self,
        number: int,
        change: LatentChange,
        value: Tensor,
        first: bool,
        columns: Mapping[int | str, Int[Tensor, " b"]],
    ) -> Tensor:
        """Make the change number ``number``; behind the prompt, at new positions, no others."""
        if change.where is not None and not first:
            return value
        read = self.values[change.reads]
        seen = self.mask if first else self.mask.new_ones(read.shape[:2])
        fired = self.fired.setdefault(number, self.mask.new_zeros(len(self.mask)))
        at = None if change.where is None else columns[change.where]
        return change.changed(value, read, fired, seen.to(value.device), at)
