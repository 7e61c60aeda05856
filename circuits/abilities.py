"""What a model can do: every task asked once, before anybody asks how it does it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.errors import MethodError, TaskError, number_faults

if TYPE_CHECKING:
    from circuits.clock import Progress
    from circuits.results.intervals import Ends
    from patching.model import Model
    from patching.runs import Batch
    from tasks import PromptPairs


@dataclass(frozen=True, slots=True)
class Ability:
    """How well a model does one task on `n` clean prompts.

    right     share whose most likely token of all is an answer
    preferred share whose answers have a higher mean logit than the counterfactual answers
    value     mean of the task's metric, with its bootstrap interval (95 %) over prompts
    refused   why the task cannot be asked of this model; everything else is then None
    """

    task: str
    metric: str
    n: int = 0
    right: float | None = None
    preferred: float | None = None
    value: float | None = None
    interval: Ends | None = None
    refused: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return asdict(self)


def abilities(
    model: Model,
    names: Iterable[str] = (),
    n: int = 32,
    seed: int = 0,
    batch_size: int = 16,
    progress: Progress | None = None,
    bos: bool | None = None,
    chat: bool | str = "",
) -> Iterator[Ability]:
    """Every task (or the named ones, options written behind them) asked with `n` prompts or fewer.

    One forward pass per prompt. A task that has fewer prompts for this tokenizer is asked with as
    many as a half, a quarter and so on of `n`; one that cannot be asked at all says why. `bos` and
    `chat` say how prompts are put to the model: see :meth:`tasks.base.Task.pairs`.

    Raises:
        TaskError: no such task or option.
        MethodError: `n`, `seed` or `batch_size` that cannot be meant.
    """
    import tasks

    if faults := number_faults(("n", n, 2), ("seed", seed, 0), ("batch size", batch_size, 1)):
        raise MethodError(faults[0])
    chosen = list(names) or tasks.names()
    every = [(name, tasks.get(name)) for name in chosen]
    for done, (name, task) in enumerate(every):
        if progress is not None:
            progress(done, len(every), "asking")
        try:
            pairs = _as_many(task, model, n, seed, bos=bos, chat=chat)
            yield _asked(model, name, pairs, batch_size, seed)
        except TaskError as fault:
            yield Ability(name, task.metric, refused=str(fault))


def task_abilities(
    model: Any = "nano", names: Iterable[str] = (), n: int = 32, seed: int = 0, **options: Any
) -> list[Ability]:
    """How well a model does every task, or those in ``names``; see :func:`abilities`.

    >>> (one,) = circuits.task_abilities(model, ["ioi"], n=8)
    >>> one.right
    1.0

    Raises:
        TaskError: no such task or option.
        ModelError: the model cannot be opened.
    """
    from circuits.models import load_model

    return list(abilities(load_model(model), names, n, seed, **options))


def _as_many(task: Any, model: Model, n: int, seed: int, **how: Any) -> PromptPairs:
    """The task's prompts: `n`, or half of it and so on where it has no more."""
    if model.tokenizer is None:
        raise TaskError(f"task {task.name} is text, and this model has no tokenizer")
    first: TaskError | None = None
    while n >= 2:
        try:
            pairs: PromptPairs = task.pairs(model.tokenizer, n=n, seed=seed, **how)
        except TaskError as fault:
            first = first or fault
            n //= 2
            continue
        return pairs
    raise first or TaskError(f"task {task.name} has no prompts")


def _asked(model: Model, name: str, pairs: PromptPairs, batch_size: int, seed: int) -> Ability:
    import torch

    from circuits.evaluation.outcomes import judge
    from circuits.results.intervals import bootstrap
    from patching.metrics import check_metric
    from patching.sweep import Sweep, sweep

    metric = check_metric(pairs.metric)

    def judged(batch: Batch) -> list[np.ndarray]:
        with torch.no_grad():
            return judge(model.run(batch.clean, batch.mask), batch.pairs, metric)

    parts = sweep(model, pairs, judged, Sweep(batch_size))
    value, preferred, right = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Ability(
        name,
        metric.name,
        n=len(pairs),
        right=float(right.mean()),
        preferred=float(preferred.mean()),
        value=float(value.mean()),
        interval=bootstrap(lambda draws: value[draws].mean(axis=1), len(value), seed),
    )
