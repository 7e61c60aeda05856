"""An All-for-One subgraph as a circuit: only measured effects are scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from circuits.evaluate import Evaluation, summarize

if TYPE_CHECKING:
    from graphs import CircuitGraph
    from patching.allforone_parts import Subgraph
    from patching.scores import Scores

SHOWN = 0.01


def as_circuit(
    subgraph: Subgraph, seed: int = 0, name: str = ""
) -> tuple[CircuitGraph, Scores, Evaluation]:
    """The circuit, the scores of all its edges, and its metric against the full model.

    The circuit shows edges whose effect is at least :data:`SHOWN` of the strongest one's. What the
    evaluation calls empty is the subgraph with nothing transferred.
    """
    from graphs import by_threshold
    from patching.ablation.run import baselines
    from patching.allforone_parts import metric_values, score_parts

    pairs, metric = subgraph.pairs, subgraph.pairs.metric
    scores = score_parts(subgraph, column_label(subgraph), metric)
    full, _ = baselines(subgraph.model, pairs, metric)
    kept = metric_values(subgraph, metric)
    empty = metric_values(subgraph.keeping(()), metric)
    ablation = f"cama:{subgraph.wait}, attention-based peeking"
    evaluation = summarize(metric, full, empty, kept, seed, ablation)
    strongest = float(abs(scores.values).max(initial=0.0))
    graph = by_threshold(scores, SHOWN * strongest).with_info(model=name, seed=seed)
    return evaluation.noted(graph), scores, evaluation


def column_label(subgraph: Subgraph) -> Callable[[int], int | str]:
    """What columns are called: the prompts' own name for a column, or its number."""
    positions = subgraph.pairs.positions.items()
    named = {int(at[0]): name for name, at in positions if (at == at[0]).all()}

    def label(column: int) -> int | str:
        return named.get(column, column)

    return label
