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
    off            values of the corrupted run, which stands in outside a circuit
    clean_input    the clean embedding
    full, empty    the metric of the clean and of the corrupted run
    log_full, log_empty   log-probabilities of every token at the end of either run, where a loss
                   asks for them
    """

    pairs: PromptPairs
    mask: Bool[Tensor, "b s"]
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


def off_kinds(layout: Layout) -> tuple[str, ...]:
    """The kinds of points of the corrupted run that masked runs start from."""
    kinds = ("input", "resid_pre", "z", "attn_raw", "attn_out", "mlp_in", "mlp_out", "final_in")
    return kinds if layout.nodes == "heads" else (*kinds, "mlp_post", "mlp_raw")


@torch.no_grad()
def inputs_of(
    model: Model, pairs: PromptPairs, layout: Layout, metric: CheckedMetric, logits: bool = False
) -> Inputs:
    """Both runs of some prompt pairs; with ``logits``, what they say of every token.

    Raises:
        MethodError: a run's logits, or its metric, are not finite.
    """
    batch = Batch.of(model, pairs)
    record = Record(off_kinds(layout))
    clean = model.run(batch.clean, batch.mask)
    corrupted = model.run(batch.corrupted, batch.mask, record)
    name_overflow(clean, {})
    name_overflow(corrupted, record.values)
    return Inputs(
        pairs,
        batch.mask,
        record.values,
        model.embed(batch.clean, model.frame(batch.mask)),
        metric(clean, pairs),
        metric(corrupted, pairs),
        clean.log_softmax(-1) if logits else None,
        corrupted.log_softmax(-1) if logits else None,
    )


@dataclass
class Prepared:
    """All pairs of one training, whose runs are computed once where they fit, else again."""

    model: Model
    pairs: PromptPairs
    layout: Layout
    metric: CheckedMetric
    logits: bool = False
    _kept: Inputs | None = None

    def at(self, rows: Int[np.ndarray, " r"]) -> Inputs:
        """Some of the pairs."""
        if self._kept is None and self._bytes() <= KEPT_BYTES:
            self._kept = self._of(self.pairs)
        return self._of(self.pairs[rows]) if self._kept is None else self._kept.take(rows)

    def _of(self, pairs: PromptPairs) -> Inputs:
        return inputs_of(self.model, pairs, self.layout, self.metric, self.logits)

    def _bytes(self) -> int:
        anatomy, (n, length) = self.model.anatomy, self.pairs.clean.shape
        width = len(off_kinds(self.layout)) * anatomy.d_model
        if self.layout.nodes == "neurons":
            width += anatomy.d_mlp
        return n * length * width * anatomy.n_layers * 4
