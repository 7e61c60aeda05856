"""All-for-One: in how few blocks do the operands reach the last token?

Tokens wait, each by itself, for as many blocks as possible; then the last token looks at them in
as few blocks as possible; then it finishes alone (Mamidanna et al. 2025, arXiv 2509.09650). The
stages are those of :mod:`patching.allforone`; here they are searched for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits.arguments import check_kinds
from circuits.clock import Progress
from circuits.config import FILES
from circuits.split import split_options
from tasks.errors import MethodError, TaskError, number_faults

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool

    from circuits.studies.allforone.result import AllForOne, Pruning
    from circuits.studies.allforone.samples import Conditional
    from patching.allforone_parts import Subgraph
    from patching.mean_activations import MeanActivations
    from patching.model import Model
    from tasks import PromptPairs


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


def af1(
    model: Any = "nano",
    task: str | Path | PromptPairs = "mental_math",
    *,
    n: int = 256,
    seed: int = 0,
    samples: int = 256,
    tolerance: float = 0.05,
    alternatives: bool = True,
    prune: bool = True,
    batch_size: int = 64,
    conditional: Conditional | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> AllForOne:
    """The All-for-One subgraph with which `model` answers `task`, and the search that found it.

    `task` is a task's name (`options` are the task's), a file of prompt pairs, or
    `PromptPairs`. Prompts have to be of one length. `conditional(position, token, n, seed)` draws
    prompts with that token at that position and the rest independent of it; by default the task's
    own sampler, or, for pairs, every column drawn by itself. Shares are of the prompts that the
    full model answers right, with 95 % Wilson intervals.

    >>> circuits.af1(model, "mental_math", n=16, samples=16, alternatives=False, prune=False)
    AllForOne(mental_math: Stages(wait=..., transfer=...), faithfulness ...)

    Raises:
        CircuitsError: the task, the model or a setting does not work, prompts differ in length, or
            the model answers no prompt right.
    """
    from circuits.models import load_model, name_of

    settings = Settings(n, seed, samples, tolerance, alternatives, prune, batch_size)
    opened = load_model(model)
    name = name_of(opened.path)
    if isinstance(task, str) and not task.endswith((".json", ".jsonl")):
        options = split_options(task, options, opened.path)
    pairs, own = ask(task, opened, settings, options)
    found = search(opened, pairs, conditional or own, settings, progress, name)
    return replace(found, options=options)


def ask(
    task: str | Path | PromptPairs, model: Model, settings: Settings, options: Mapping[str, Any]
) -> tuple[PromptPairs, Conditional]:
    """The prompts, and what draws others that share a token with them."""
    import tasks
    from circuits.studies.allforone.samples import Columns, OfTask, of_one_length

    if isinstance(task, str | Path) and str(task).endswith(FILES):
        task = tasks.read_pairs(task, model.tokenizer, n=None, seed=settings.seed)
    if not isinstance(task, str | Path):
        check_kinds(pairs=task)
        pairs = of_one_length(task[: settings.n])
        return pairs, Columns.of(pairs)
    found = tasks.get(str(task))
    if model.tokenizer is None:
        raise TaskError(f"task {task} is text, and this model has no tokenizer; give prompt pairs")
    # Conditional means hold one token fixed, so an operand has to be one.
    whole = {"tokens": "one"} if "tokens" in found.options else {}
    made = found.pairs(model.tokenizer, n=settings.n, seed=settings.seed, **(whole | dict(options)))
    pairs = of_one_length(made)
    if not hasattr(found, "conditional"):
        return pairs, Columns.of(pairs)
    return pairs, OfTask.of(found, model.tokenizer, pairs, options)


def search(
    model: Model,
    pairs: PromptPairs,
    conditional: Conditional,
    settings: Settings,
    progress: Progress | None = None,
    name: str = "",
) -> AllForOne:
    """The whole search on an opened model; see :func:`af1`."""
    from circuits.results.intervals import Proportion
    from circuits.studies.allforone.graph import as_circuit
    from circuits.studies.allforone.result import MAIN, AllForOne, choose, closest
    from circuits.studies.allforone.samples import draw
    from patching import allforone
    from patching.allforone_parts import Subgraph
    from patching.allforone_standins import cama
    from patching.progress import Count

    tell = progress or _silent
    size = settings.batch_size
    asked, right = _right(model, pairs, size)
    bos = allforone.same_first_token(right)
    tell(0, 0, "drawing prompts for conditional means")
    samples = draw(right, conditional, settings.samples, settings.seed)
    means = cama(model, right, samples, progress=tell)
    layers, parts = model.anatomy.n_layers, -(-len(right) // size)
    runs = (2 * layers + 1 + allforone.grid_size(layers)) * parts
    count = Count(tell, runs, "waits, transfers and blocks")
    waiting = allforone.waiting_alone(model, right, means, size, count)
    grids = {MAIN: _shares(allforone.grid(model, right, means, bos, "abp", size, count))}
    necessity = allforone.necessity(model, right, bos, size, count)
    if settings.alternatives:
        grids |= _alternatives(model, right, samples, means, bos, settings, tell)
    chosen = choose(grids[MAIN], settings.tolerance)
    at = chosen or closest(grids[MAIN])
    subgraph = Subgraph.of(model, right, means, bos, at.wait, at.transfer, size)
    pruned = None
    if settings.prune and chosen:
        subgraph, pruned = _pruned(subgraph, settings.tolerance, tell)
    tell(0, 0, "scoring the subgraph")
    graph, scores, evaluation = as_circuit(subgraph, settings.seed, name)
    return AllForOne(
        task=right.task,
        model=name,
        layers=model.anatomy.n_layers,
        asked=Proportion(asked, len(pairs)),
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


def _right(model: Model, pairs: PromptPairs, size: int) -> tuple[int, PromptPairs]:
    """How many prompts the full model answers right, and those."""
    from patching.allforone import full_run

    hits = full_run(model, pairs, size)
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
    settings: Settings,
    tell: Progress,
) -> dict[str, Any]:
    """The same grid with something else in the place of CAMA, or of ABP."""
    from patching.allforone import PEEKS, grid, grid_size
    from patching.allforone_standins import alternatives
    from patching.progress import Count

    others = alternatives(model, pairs, samples, means, bos, settings.seed)
    runs = [(f"{name}, abp", table, "abp") for name, table in others.items()]
    runs += [(f"cama, {peek}", means, peek) for peek in PEEKS if peek != "abp"]
    runs = [run for run in runs if bos or run[2] != "no-bos"]
    size = grid_size(model.anatomy.n_layers) * -(-len(pairs) // settings.batch_size)
    found, count = {}, Count(tell, len(runs) * size, "alternatives")
    for name, table, peek in runs:
        measured = grid(model, pairs, table, bos, peek, settings.batch_size, count)
        found[name] = _shares(measured)
    return found


def _pruned(whole: Subgraph, tolerance: float, tell: Progress) -> tuple[Subgraph, Pruning]:
    """The subgraph with the fewest heads that stays within the tolerance, and every step there."""
    from circuits.results.intervals import Proportion
    from circuits.studies.allforone.result import Pruning
    from patching.allforone_parts import answers, prune_heads

    kept = left = whole.heads
    share, steps = Proportion.of(answers(whole)[0].tolist()), []
    for gone, hits in prune_heads(whole, tell):
        left = tuple(head for head in left if head != gone)
        now = Proportion.of(hits.tolist())
        steps.append((gone.name, now))
        if now.value >= 1 - tolerance:
            kept, share = left, now
    names = tuple(head.name for head in kept)
    return whole.keeping(kept), Pruning(tuple(steps), names, share)


def _shares(hits: Mapping[Any, Bool[np.ndarray, " n"]]) -> dict[Any, Any]:
    from circuits.results.intervals import Proportion

    return {key: Proportion.of(row.tolist()) for key, row in hits.items()}


def _silent(done: int, total: int, what: str) -> None:
    """Nobody watches."""
