"""What masked runs of some prompt pairs start from: the run that stands in outside, and targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patching.forward import Record
from patching.metrics import CheckedMetric
from patching.model import Model
from patching.nodes.layout import Layout
from patching.ops import Point
from patching.runs import Batch, name_overflow
from tasks.pairs import PromptPairs

KEPT_BYTES = 256 * 2**20
"""How large the corrupted run's values of all pairs may be to be kept from step to step."""


@dataclass(frozen=True)
class Inputs:
    """Some prompt pairs, ready for masked runs.

    mask           which columns are real tokens
    first          the first column at which a clean and a corrupted prompt differ, or 0: before it
                   nothing ever changes
    off            values of the corrupted run, which stands in outside a circuit: keys and values
                   before ``first``, everything else from there on
    clean_input    the clean embedding from ``first`` on
    full, empty    the metric of the clean and of the corrupted run
    log_full, log_empty   log-probabilities of every token at the end of either run, where a loss
                   asks for them
    """

    pairs: PromptPairs
    mask: Bool[Tensor, "b s"]
    first: int
    off: Mapping[Point, Tensor]
    clean_input: Float[Tensor, "b s d"]
    full: Float[Tensor, " b"]
    empty: Float[Tensor, " b"]
    log_full: Float[Tensor, "b v"] | None = None
    log_empty: Float[Tensor, "b v"] | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def take(self, rows: Int[np.ndarray, " r"]) -> Inputs:
        """Some of the pairs, in this order."""
        at = torch.as_tensor(rows, device=self.mask.device)
        whole = (self.log_full, self.log_empty)
        return replace(
            self,
            pairs=self.pairs[rows],
            mask=self.mask[at],
            off={point: value[at] for point, value in self.off.items()},
            clean_input=self.clean_input[at],
            full=self.full[at],
            empty=self.empty[at],
            log_full=None if whole[0] is None else whole[0][at],
            log_empty=None if whole[1] is None else whole[1][at],
        )


KEYS = ("k_read", "v_read")


def off_kinds(layout: Layout) -> tuple[str, ...]:
    """The kinds of points of the corrupted run that masked runs start from."""
    kinds = ("input", "resid_pre", "z", "attn_raw", "attn_out", "mlp_in", "mlp_out", "final_in")
    return (*kinds, *KEYS) if layout.nodes == "heads" else (*kinds, *KEYS, "mlp_post", "mlp_raw")


def first_difference(pairs: PromptPairs) -> int:
    """The first column at which a clean and a corrupted prompt differ; the last if none does."""
    differ = ((pairs.clean != pairs.corrupted) & pairs.mask).any(0)
    return int(differ.argmax()) if differ.any() else pairs.clean.shape[1] - 1


@torch.no_grad()
def inputs_of(
    model: Model,
    pairs: PromptPairs,
    layout: Layout,
    metric: CheckedMetric,
    first: int = 0,
    logits: bool = False,
) -> Inputs:
    """Both runs of some prompt pairs, which are the same before the column ``first``.

    With ``logits``, also what both runs say of every token.

    Raises:
        MethodError: a run's logits, or its metric, are not finite.
    """
    batch = Batch.of(model, pairs)
    record = Record(off_kinds(layout))
    clean = model.run(batch.clean, batch.mask)
    corrupted = model.run(batch.corrupted, batch.mask, record)
    name_overflow(clean, {})
    name_overflow(corrupted, record.values)
    first = max(0, first - batch.dropped)
    return Inputs(
        pairs,
        batch.mask,
        first,
        {point: _cut(point, value, first) for point, value in record.values.items()},
        model.embed(batch.clean, model.frame(batch.mask))[:, first:],
        metric(clean, pairs),
        metric(corrupted, pairs),
        clean.log_softmax(-1) if logits else None,
        corrupted.log_softmax(-1) if logits else None,
    )


def _cut(point: Point, value: Tensor, first: int) -> Tensor:
    """What is needed of a value of all columns; the last stream has one column alone."""
    if point[0] == "final_in":
        return value
    # Copies: a part of a tensor would keep the whole of it alive.
    return (value[:, :first] if point[0] in KEYS else value[:, first:]).clone()


@dataclass
class Prepared:
    """All pairs of one training, whose runs are computed once where they fit, else again."""

    model: Model
    pairs: PromptPairs
    layout: Layout
    metric: CheckedMetric
    first: int = 0
    logits: bool = False
    _kept: Inputs | None = None

    def at(self, rows: Int[np.ndarray, " r"]) -> Inputs:
        """Some of the pairs."""
        if self._kept is None and self._bytes() <= KEPT_BYTES:
            self._kept = self._of(self.pairs)
        return self._of(self.pairs[rows]) if self._kept is None else self._kept.take(rows)

    def _of(self, pairs: PromptPairs) -> Inputs:
        how = self.layout, self.metric, self.first, self.logits
        return inputs_of(self.model, pairs, *how)

    def _bytes(self) -> int:
        anatomy, (n, length) = self.model.anatomy, self.pairs.clean.shape
        width = len(off_kinds(self.layout)) * anatomy.d_model
        if self.layout.nodes == "neurons":
            width += anatomy.d_mlp
        return n * length * width * anatomy.n_layers * 4
