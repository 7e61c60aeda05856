"""What taking parts of a model away does to a letter's lead, and which of many are worth it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from patching.ablation.run import effects_ablated
from patching.metrics import Metric, check_metric
from patching.model import Model
from patching.runs import Batch, record_gradients
from patching.sites import parse_site
from patching.sitesets import point_of
from patching.sweep import Sweep, sweep
from tasks.pairs import PromptPairs

Effect = tuple[float | None, float | None]
"""An effect and its standard error, each None where it is not known."""

EXACT = 64
"""How many heads, MLPs and value vectors are taken away, of each."""

KINDS = ("z", "mlp_out", "mlp_post")


def lead(logits: Float[Tensor, "b v"], letter: int, right: Tensor) -> Float[Tensor, " b"]:
    """How far the letter's logit is ahead of the right one's."""
    return logits[:, letter] - logits.gather(1, right[:, None])[:, 0]


def _lead_of(letter: int) -> Metric:
    """The same as a metric."""

    def ahead(logits: Tensor, of: PromptPairs) -> Tensor:
        return lead(logits, letter, torch.tensor(of.answer[:, 0], device=logits.device))

    return ahead


def strongest(
    model: Model, pairs: PromptPairs, names: Sequence[str], letter: int, options: Sweep
) -> list[str]:
    """The parts to take away: of each kind all, or the ``EXACT`` with the largest estimates.

    The estimate of what a part ``x`` does is first-order, ``x . dm/dx`` summed over positions and
    prompts, its size whatever its sign.
    """
    sites = {name: parse_site(name) for name in names}
    kinds = Counter(site.kind for site in sites.values())
    if max(kinds.values()) <= EXACT:
        return list(names)
    metric = check_metric(_lead_of(letter))

    def work(batch: Batch) -> Float[np.ndarray, " parts"]:
        seen, sums = record_gradients(model, batch, "clean", metric, KINDS), []
        for site in sites.values():
            point = point_of(site)
            unit = slice(None) if site.unit < 0 else site.unit
            along = seen.values[point][:, :, unit] * seen.grads[point][:, :, unit]
            sums.append(along.double().sum())
        return torch.stack(sums).cpu().numpy()

    sizes = reduce(np.add, sweep(model, pairs, work, options))
    totals = dict(zip(sites, sizes, strict=True))
    ranked, kept = sorted(names, key=lambda name: -abs(totals[name])), set()
    for kind in kinds:
        kept |= set([name for name in ranked if sites[name].kind == kind][:EXACT])
    return [name for name in names if name in kept]


def effects_without(
    model: Model,
    pairs: PromptPairs,
    names: Sequence[str],
    letter: int,
    options: Sweep,
) -> dict[str, Effect]:
    """How much less the letter is ahead of the right one without each part, and its error."""
    lost = effects_ablated(model, pairs, names, "zero", metric=_lead_of(letter), batch_size=options)
    effects: dict[str, Effect] = {}
    for name, less in zip(names, lost, strict=True):
        error = float(less.std(ddof=1) / len(less) ** 0.5) if len(less) > 1 else None
        effects[name] = float(less.mean()), error
    return effects
