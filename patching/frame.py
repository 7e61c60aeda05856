"""The frame of a batch: what every block must know besides the residual stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Table = tuple[Float[Tensor, "b q r"], Float[Tensor, "b q r"]]
"""Cosines and sines of a rotary embedding, by position."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Positions, rotary tables and the causal mask of a left-padded batch.

    ``allowed[b, q, k]`` says whether query row ``q`` may look at key ``k``, ``keys`` are the
    positions of all keys. A model may have several rotary tables, of which each layer names one.
    ``query_scale`` multiplies queries by position where a model does so. A frame made by
    :meth:`rows` keeps only some query rows while all keys stay, which is how computation resumes
    from the first position that a patch can change.
    """

    positions: Int[Tensor, "b q"]
    allowed: Bool[Tensor, "b q k"]
    keys: Int[Tensor, "b k"]
    tables: Mapping[str, Table] = field(default_factory=lambda: MappingProxyType({}))
    query_scale: Float[Tensor, "b q"] | None = None
    first: int = 0

    def visible(self, window: int | None) -> Bool[Tensor, "b 1 q k"]:
        """The mask of one layer, with a sliding window where the layer has one."""
        allowed = self.allowed
        if window is not None and window < allowed.shape[-1]:
            rows = torch.arange(allowed.shape[-2], device=allowed.device) + self.first
            keys = torch.arange(allowed.shape[-1], device=allowed.device)
            allowed = allowed & (keys[None, :] > rows[:, None] - window)
        return allowed[:, None]

    def _rowwise(self, change: Callable[[Tensor], Tensor]) -> Frame:
        """Every value that has one entry a query row, changed."""
        scale = self.query_scale
        return replace(
            self,
            positions=change(self.positions),
            allowed=change(self.allowed),
            tables={name: (change(cos), change(sin)) for name, (cos, sin) in self.tables.items()},
            query_scale=None if scale is None else change(scale),
        )

    def rows(self, start: int) -> Frame:
        """The same frame with query rows from ``start`` on (absolute index) only."""
        skip = start - self.first
        return replace(self._rowwise(lambda x: x[:, skip:]), first=start)

    def between(self, start: int, stop: int) -> Frame:
        """Query rows from ``start`` up to ``stop``, and the keys up to ``stop``."""
        rows = self.rows(start)._rowwise(lambda x: x[:, : stop - start])
        return replace(rows, allowed=rows.allowed[..., :stop], keys=self.keys[:, :stop])

    def only(self, rows: list[int]) -> Frame:
        """Some positions as queries and as keys; a sliding window has to be in a mask already."""
        picked = self._rowwise(lambda x: x[:, rows])
        return replace(picked, allowed=picked.allowed[..., rows], keys=self.keys[:, rows])

    def repeat(self, times: int) -> Frame:
        """The frame of the batch stacked ``times`` times."""

        def tile(x: Tensor) -> Tensor:
            return x.repeat(times, *([1] * (x.ndim - 1)))

        return replace(self._rowwise(tile), keys=tile(self.keys))


def make_frame(
    mask: Bool[Tensor, "b s"],
    tables: Callable[[Int[Tensor, "b s"]], Mapping[str, Table]] | None = None,
    query_scale: Callable[[Int[Tensor, "b s"]], Float[Tensor, "b s"]] | None = None,
) -> Frame:
    """The frame of a whole left-padded batch.

    ``tables`` gives the rotary tables of positions, ``query_scale`` the factor of queries. Padding
    rows see themselves, so that no row of the softmax is empty; nothing that matters reads them.
    """
    length = mask.shape[1]
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    causal = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    allowed = causal[None] & mask[:, None, :]
    allowed = allowed | torch.eye(length, dtype=torch.bool, device=mask.device)[None]
    return Frame(
        positions,
        allowed,
        positions,
        {} if tables is None else tables(positions),
        None if query_scale is None else query_scale(positions),
    )
