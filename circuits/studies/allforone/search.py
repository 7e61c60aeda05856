"""All-for-One: in how few blocks do the operands reach the last token?

Tokens wait, each by itself, for as many blocks as possible; then the last token looks at them in
as few blocks as possible; then it finishes alone (Mamidanna et al. 2025, arXiv 2509.09650). The
stages are those of :mod:`patching.allforone.stages`; here they are searched for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from circuits.arguments import check_kinds, check_unput
from circuits.config import FILES
from circuits.results.intervals import Proportion
from circuits.studies.allforone.stages import MAIN, choose, closest
from tasks.errors import MethodError, TaskError, number_faults

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool

    from circuits.evaluate import Evaluation
    from circuits.studies.allforone.result import AllForOne, Pruning
    from circuits.studies.allforone.samples import Conditional
    from graphs import CircuitGraph
    from patching.ablation.means import MeanActivations
    from patching.allforone.subgraph import Subgraph
    from patching.model import Model
    from patching.scores import Scores
    from patching.sweep import Sweep
    from tasks import PromptPairs

SHOWN = 0.01
"""Of the strongest edge's effect, what an edge must have to be part of the circuit."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a search is made.

    n             prompts to draw; those that the full model answers right are used
    samples       prompts behind every conditional mean
    tolerance     how much of the right answers a subgraph may lose and still count as good
    alternatives  whether the grid is measured for the alternatives to CAMA and to ABP as well
    prune         whether heads are taken away one by one in the transfer blocks
    """

    n: int = 256
    seed: int = 0
    samples: int = 256
    tolerance: float = 0.05
    alternatives: bool = True
    prune: bool = True
    batch_size: int = 64

    def __post_init__(self) -> None:
        faults = number_faults(
            ("n", self.n, 1),
            ("seed", self.seed, 0),
            ("samples", self.samples, 1),
            ("batch size", self.batch_size, 1),
        )
        if not 0 <= self.tolerance < 1:
            faults.append(f"tolerance is {self.tolerance}; give a share from 0 to less than 1")
        if faults:
            raise MethodError("All-for-One cannot run like this: " + "; ".join(faults))


class Putting(NamedTuple):
    """How texts are put to the model: how they begin, and the form of chat turns."""

    bos: bool | None = None
    chat: str = ""

    @property
    def given(self) -> dict[str, Any]:
        """What is not as by default."""
        return {name: value for name, value in self._asdict().items() if value not in (None, "")}


def prompts(
    task: str | Path | PromptPairs,
    model: Model,
    settings: Settings,
    options: Mapping[str, Any],
    how: Putting,
) -> tuple[PromptPairs, Conditional]:
    """The prompts, and what draws others that share a token with them."""
    import tasks
    from circuits.studies.allforone.samples import Columns, OfTask, of_one_length

    if isinstance(task, str | Path) and str(task).endswith(FILES):
        task = tasks.read_pairs(task, model.tokenizer, seed=settings.seed, **how._asdict())
    elif not isinstance(task, str | Path):
        check_kinds(pairs=task)
        check_unput(*how)
    if not isinstance(task, str | Path):
        pairs = of_one_length(task[: settings.n])
        return pairs, Columns.of(pairs)
    source = tasks.get(str(task))
    if model.tokenizer is None:
        raise TaskError(f"task {task} is text, and this model has no tokenizer; give prompt pairs")
    # Conditional means hold one token fixed, so an operand has to be one.
    whole = {"tokens": "one"} if "tokens" in source.options else {}
    given = {"seed": settings.seed, **how.given, **whole, **options}
    pairs = of_one_length(source.pairs(model.tokenizer, n=settings.n, **given))
    if not hasattr(source, "conditional"):
        return pairs, Columns.of(pairs)
    return pairs, OfTask.of(source, model.tokenizer, pairs, {**options, **how.given})


def search(
    model: Model,
    pairs: PromptPairs,
    conditional: Conditional,
    settings: Settings,
    options: Sweep,
    name: str = "",
) -> AllForOne:
    """The whole search on an opened model; see :func:`circuits.af1`."""
    from circuits.studies.allforone.result import AllForOne
    from circuits.studies.allforone.samples import draw
    from patching.ablation.waiting import MEANS_BATCH, cama
    from patching.allforone import stages
    from patching.allforone.subgraph import Subgraph
    from patching.progress import Count

    count, right = _right(model, pairs, options)
    bos = stages.same_first_token(right)
    Count(options.progress, 0, "drawing prompts for conditional means")
    samples = draw(right, conditional, settings.samples, settings.seed)
    means = cama(model, right, samples, options.afresh(MEANS_BATCH))
    layers = model.anatomy.n_layers
    runs = (2 * layers + 1 + stages.grid_size(layers)) * len(right)
    counted = options.counting(runs, "waits, transfers and blocks")
    waiting = stages.waiting_alone(model, right, means, counted)
    grids = {MAIN: _shares(stages.grid(model, right, means, bos, "abp", counted))}
    necessity = stages.necessity(model, right, bos, counted)
    if settings.alternatives:
        grids |= _alternatives(model, right, samples, means, bos, settings.seed, options)
    chosen = choose(grids[MAIN], settings.tolerance)
    at = chosen or closest(grids[MAIN])
    subgraph = Subgraph.of(model, right, means, bos, at.wait, at.transfer, options)
    pruned = None
    if settings.prune and chosen:
        subgraph, pruned = _pruned(subgraph, settings.tolerance)
    Count(options.progress, 0, "scoring the subgraph")
    graph, scores, evaluation = _as_circuit(subgraph, settings.seed, name)
    return AllForOne(
        task=right.task,
        model=name,
        layers=model.anatomy.n_layers,
        asked=Proportion(count, len(pairs)),
        tolerance=settings.tolerance,
        samples=settings.samples,
        keys=len(means.keys),
        thin=means.thin(settings.samples),
        waiting=_shares(waiting),
        grids=grids,
        necessity=_shares(necessity),
        chosen=chosen,
        pruned=pruned,
        graph=graph,
        scores=scores,
        evaluation=evaluation,
        means=means,
        pairs=right,
    )


def _right(model: Model, pairs: PromptPairs, options: Sweep) -> tuple[int, PromptPairs]:
    """How many prompts the full model answers right, and those."""
    from patching.allforone.stages import full_run

    hits = full_run(model, pairs, options)
    if not hits.any():
        raise MethodError(
            f"the model answers none of {len(pairs)} prompts right, and All-for-One asks what is "
            f"left of the right answers; choose a model that can do the task"
        )
    return int(hits.sum()), pairs[hits.nonzero()[0]]


def _alternatives(
    model: Model,
    pairs: PromptPairs,
    samples: Mapping[tuple[int, int], np.ndarray],
    means: MeanActivations,
    bos: bool,
    seed: int,
    options: Sweep,
) -> dict[str, Any]:
    """The same grid with something else instead of CAMA, or of ABP."""
    from patching.ablation.waiting import MEANS_BATCH, alternatives
    from patching.allforone.stages import PEEKS, grid, grid_size

    batch = options.afresh(MEANS_BATCH, progress=None)
    others = alternatives(model, pairs, samples, means, bos, seed, batch)
    runs = [(f"{name}, abp", table, "abp") for name, table in others.items()]
    runs += [(f"cama, {peek}", means, peek) for peek in PEEKS if peek != "abp"]
    runs = [run for run in runs if bos or run[2] != "no-bos"]
    total = len(runs) * grid_size(model.anatomy.n_layers) * len(pairs)
    options = options.counting(total, "alternatives")
    return {
        name: _shares(grid(model, pairs, table, bos, peek, options)) for name, table, peek in runs
    }


def _pruned(whole: Subgraph, tolerance: float) -> tuple[Subgraph, Pruning]:
    """The subgraph with the fewest heads that stays within the tolerance, and every step there."""
    from circuits.studies.allforone.result import Pruning
    from patching.allforone.subgraph import answers, prune_heads

    kept = left = whole.heads
    share, steps = Proportion.of(answers(whole)[0].tolist()), []
    for gone, hits in prune_heads(whole):
        left = tuple(head for head in left if head != gone)
        now = Proportion.of(hits.tolist())
        steps.append((gone.name, now))
        if now.value >= 1 - tolerance:
            kept, share = left, now
    names = tuple(head.name for head in kept)
    return whole.keeping(kept), Pruning(tuple(steps), names, share)


def _shares(hits: Mapping[Any, Bool[np.ndarray, " n"]]) -> dict[Any, Any]:
    return {key: Proportion.of(row.tolist()) for key, row in hits.items()}


def _as_circuit(
    subgraph: Subgraph, seed: int, name: str
) -> tuple[CircuitGraph, Scores, Evaluation]:
    """The circuit, the scores of all its edges, and its metric against the full model.

    What the evaluation calls empty is the subgraph with nothing transferred.
    """
    from circuits.evaluate import summarize
    from graphs import by_threshold
    from patching.ablation.run import baselines
    from patching.allforone.subgraph import metric_values, score_parts

    pairs, metric = subgraph.pairs, subgraph.pairs.metric
    scores = score_parts(subgraph, _column_label(subgraph), metric)
    full, _ = baselines(subgraph.model, pairs, metric)
    kept = metric_values(subgraph, metric)
    empty = metric_values(subgraph.keeping(()), metric)
    ablation = f"cama:{subgraph.wait}, attention-based peeking"
    evaluation = summarize(metric, full, empty, kept, seed, ablation)
    strongest = float(abs(scores.values).max(initial=0.0))
    graph = by_threshold(scores, SHOWN * strongest).with_info(model=name, seed=seed)
    return evaluation.noted(graph), scores, evaluation


def _column_label(subgraph: Subgraph) -> Callable[[int], int | str]:
    """What columns are called: the prompts' own name for a column, or its number."""
    positions = subgraph.pairs.positions.items()
    named = {int(at[0]): name for name, at in positions if (at == at[0]).all()}

    def label(column: int) -> int | str:
        return named.get(column, column)

    return label
