"""Mean activations of a set of prompts, for ablations to put elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from patching.ablation.means import MeanActivations
    from patching.model import Model
    from patching.progress import Progress
    from patching.sweep import Sweep
    from tasks import PromptPairs


def means(
    model: Model,
    pairs: PromptPairs,
    ablation: str = "mean",
    *,
    batch_size: int | Sweep = 64,
    progress: Progress | None = None,
) -> MeanActivations:
    """The mean of everything that an edge carries, over the clean prompts of `pairs`.

    `ablation` says which means: `mean` (one of every activation, over all tokens),
    `mean-by-position` or `mean-by-token`. Give the result as `means` to :func:`circuits.evaluate`
    or :func:`circuits.ablate`, or save it with its method `save`.

    >>> average = circuits.means(model, pairs)
    >>> circuits.evaluate(graph, model, pairs, ablation="mean", means=average)
    Evaluation(logit_diff, 16 prompt pairs: faithfulness ...)

    Raises:
        MethodError: an ablation that takes no means.
    """
    from circuits.evaluation.running import averaged
    from patching.ablation.estimates import estimate_means
    from patching.nodes.deltas import points_of
    from patching.nodes.layout import layout_of
    from patching.sweep import Sweep

    by = averaged(ablation)
    points = points_of(layout_of(model.anatomy))
    return estimate_means(model, pairs, points, by, Sweep.of(batch_size, progress))
