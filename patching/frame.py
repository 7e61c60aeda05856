"""The frame of a batch: what every block must know besides the residual stream."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Frame:
    """Positions, rotary factors and the causal mask of a left-padded batch.

    ``allowed[b, q, k]`` says whether query row ``q`` may look at key ``k``. A frame made by
    :meth:`rows` keeps only some query rows while all keys stay, which is how computation resumes
    from the first position that a patch can change.
    """

    positions: Int[Tensor, "b q"]
    allowed: Bool[Tensor, "b q k"]
    cos: Float[Tensor, "b q r"] | None = None
    sin: Float[Tensor, "b q r"] | None = None
    first: int = 0

    def visible(self, window: int | None) -> Bool[Tensor, "b 1 q k"]:
        """The mask of one layer, with a sliding window where the layer has one."""
        allowed = self.allowed
        if window is not None and window < allowed.shape[-1]:
            rows = torch.arange(allowed.shape[-2], device=allowed.device) + self.first
            keys = torch.arange(allowed.shape[-1], device=allowed.device)
            allowed = allowed & (keys[None, :] > rows[:, None] - window)
        return allowed[:, None]

    def rows(self, start: int) -> Frame:
        """The same frame with query rows from ``start`` on (absolute index) only."""
        skip = start - self.first
        return replace(
            self,
            positions=self.positions[:, skip:],
            allowed=self.allowed[:, skip:],
            cos=None if self.cos is None else self.cos[:, skip:],
            sin=None if self.sin is None else self.sin[:, skip:],
            first=start,
        )

    def repeat(self, times: int) -> Frame:
        """The frame of the batch stacked ``times`` times."""

        def tile(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.repeat(times, *([1] * (x.ndim - 1)))

        positions, allowed = tile(self.positions), tile(self.allowed)
        assert positions is not None
        assert allowed is not None
        return replace(
            self, positions=positions, allowed=allowed, cos=tile(self.cos), sin=tile(self.sin)
        )


def make_frame(
    mask: Bool[Tensor, "b s"], rotary: nn.Module | None, like: Float[Tensor, ...]
) -> Frame:
    """The frame of a whole left-padded batch.

    ``rotary`` is the model's own rotary module (``(x, position_ids) -> cos, sin``) or None;
    ``like`` gives it the dtype and device. Padding rows see themselves, so that no row of the
    softmax is empty; nothing that matters reads them.
    """
    length = mask.shape[1]
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    causal = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    allowed = causal[None] & mask[:, None, :]
    allowed = allowed | torch.eye(length, dtype=torch.bool, device=mask.device)[None]
    cos = sin = None
    if rotary is not None:
        cos, sin = rotary(like, positions)
        cos, sin = cos.expand(len(mask), -1, -1), sin.expand(len(mask), -1, -1)
    return Frame(positions, allowed, cos, sin)
