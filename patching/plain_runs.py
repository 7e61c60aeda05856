"""The metric of every prompt in the two plain runs."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from patching.metrics import Metric, check_metric
from patching.model import Model
from patching.runs import Batch
from patching.sweep import Sweep, sweep
from tasks.pairs import PromptPairs


@torch.no_grad()
def baselines(
    model: Model,
    pairs: PromptPairs,
    metric: str | Metric = "logit_diff",
    batch_size: int | Sweep = 64,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The metric of every prompt in the clean and in the corrupted run."""
    checked = check_metric(metric)

    def both(batch: Batch) -> Float[np.ndarray, "2 b"]:
        runs = (model.run(batch.tokens(run), batch.mask) for run in ("clean", "corrupted"))
        values = [checked(logits, batch.pairs) for logits in runs]
        return torch.stack(values).double().cpu().numpy()

    clean, corrupted = np.concatenate([*sweep(model, pairs, both, Sweep.of(batch_size))], axis=1)
    return clean, corrupted
