"""How good a dictionary is for a model: what it explains, and what the model still can do with it.

Loss recovered is no acceptance test: a model may keep its loss and lose its arithmetic. So every
task is asked with what the dictionary reads replaced by its reconstruction (spliced), and the share
of right answers stands beside that of the model itself.

    explained   1 - sum |y - y^|^2 / sum |y - mean y|^2, over all tokens but the first of a prompt
    recovered   (loss with the mean - loss spliced) / (loss with the mean - loss), of the answers
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.results.intervals import Proportion
from circuits.results.report import Report, Reported
from circuits.results.tables import Table
from tasks.errors import MethodError, TaskError

if TYPE_CHECKING:
    import pandas as pd

    from patching.dictionaries.dictionary import Dictionary
    from patching.model import Model
    from patching.runs import Batch
    from patching.sweep import Sweep
    from tasks import PromptPairs

WORDED = ("ioi", "mental_math", "mcq_bias", "emotion")
"""The tasks that a dictionary is measured on where none are named."""

LEAST_EXPLAINED = 0.5
"""Below this share of the variance a dictionary is refused, unless it is forced."""
TITLES = ("task", "n", "right", "right, spliced", "loss", "loss, spliced", "recovered")


@dataclass(frozen=True, slots=True)
class TaskQuality:
    """One task with and without the splice; losses are means of -log p(answer), in nats."""

    task: str
    right: Proportion
    spliced: Proportion
    loss: float
    loss_spliced: float
    loss_mean: float

    @property
    def recovered(self) -> float:
        """Share of what the mean loses that the splice keeps; NaN where it loses nothing."""
        gap = self.loss_mean - self.loss
        return (self.loss_mean - self.loss_spliced) / gap if gap > 1e-6 else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        shares = {"right": self.right.to_json(), "spliced": self.spliced.to_json()}
        losses = {n: getattr(self, n) for n in ("loss", "loss_spliced", "loss_mean")}
        return {"task": self.task, **shares, **losses}


@dataclass(frozen=True, repr=False)
class Quality(Reported):
    """What one dictionary is worth.

    explained  share of the variance, over the tokens of all prompts
    per_token  latents that fire at a token, on average
    silent     latents that never fired
    """

    place: str
    explained: float
    per_token: float
    silent: int
    latents: int
    tokens: int
    tasks: tuple[TaskQuality, ...]

    @property
    def lost(self) -> float:
        """The largest loss of right answers, over tasks."""
        return max((t.right.value - t.spliced.value for t in self.tasks), default=0.0)

    def table(self) -> Table:
        """A row per task."""
        rows = [
            [
                each.task,
                str(each.right.n),
                f"{each.right.value:.0%}",
                f"{each.spliced.value:.0%}",
                f"{each.loss:.3f}",
                f"{each.loss_spliced:.3f}",
                "" if np.isnan(each.recovered) else f"{each.recovered:.1%}",
            ]
            for each in self.tasks
        ]
        return Table(TITLES, rows)

    def line(self) -> str:
        """The dictionary as a whole, in a line."""
        return (
            f"{self.place}: {self.explained:.1%} of the variance explained by "
            f"{self.per_token:.1f} latents a token; {self.silent} of {self.latents} latents were "
            f"silent on {self.tokens:,} tokens"
        )

    def to_frame(self) -> pd.DataFrame:
        """A row per task, with and without the splice."""
        import pandas as pd

        table = self.table()
        return pd.DataFrame(table.rows, columns=list(table.head)).set_index(table.head[0])

    def report(self) -> Report:
        """The dictionary as a whole, then task by task."""
        return Report.of(self.line(), self.table())

    def __repr__(self) -> str:
        return f"Quality({self.place}: {self.explained:.1%} explained)"

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        names = ("place", "explained", "per_token", "silent", "latents", "tokens")
        return {n: getattr(self, n) for n in names} | {"tasks": [t.to_json() for t in self.tasks]}


def quality(
    model: Model,
    dictionary: Dictionary,
    prompts: Iterable[PromptPairs],
    batch_size: int | Sweep = 32,
) -> Quality:
    """Measure a dictionary on the clean prompts of some tasks.

    Raises:
        SiteError: the dictionary does not fit the model.
        TaskError: no prompts.
    """
    from patching.dictionaries.readings import check_fit
    from patching.sweep import Sweep, sweep

    check_fit(model, dictionary)
    every = list(prompts)
    if not every:
        raise TaskError("a dictionary is measured on the prompts of tasks, and none can be asked")
    moved, options = _placed(model, dictionary), Sweep.of(batch_size)
    mean = _mean(model, moved, every, options)

    def work(batch: Batch) -> tuple[np.ndarray, ...]:
        return _measured(model, moved, mean, batch)

    tasks, sums = [], []
    for pairs in every:
        parts = [*sweep(model, pairs, work, options)]
        losses, rights = (
            np.concatenate(column) for column in zip(*(p[:2] for p in parts), strict=True)
        )
        sums.append([sum(column) for column in zip(*(p[2:] for p in parts), strict=True)])
        shares = [Proportion(int(column.sum()), len(column)) for column in rights.T]
        tasks.append(TaskQuality(pairs.task, shares[0], shares[1], *losses.mean(0).tolist()))
    squares, fired = (sum(column) for column in zip(*sums, strict=True))
    left, spread, tokens = squares.tolist()
    return Quality(
        str(dictionary.writes),
        explained=1 - left / spread,
        per_token=float(fired.sum() / tokens),
        silent=int((fired == 0).sum()),
        latents=dictionary.n_latents,
        tokens=int(tokens),
        tasks=tuple(tasks),
    )


def check_dictionary(
    model: Model | str,
    dictionary: Dictionary | str,
    tasks: Iterable[str] = WORDED,
    *,
    n: int = 64,
    seed: int = 0,
    batch_size: int = 32,
) -> Quality:
    """Measure a dictionary on ``n`` prompts of each of some tasks that the model can be asked.

    ``dictionary`` is a read one, ``PATH`` or ``SITE=PATH``. Shares are of right answers, losses are
    in nats; see :mod:`circuits.dictionaries.quality`.

    >>> made = circuits.train_dictionary(model, latents=64, k=8, steps=40, tokens=2000, n=8)
    >>> circuits.check_dictionary(model, made.dictionary, ["ioi"], n=8)
    Quality(resid_post.1: ... explained)

    Raises:
        SiteError: the dictionary does not fit the model.
        FormatError: it cannot be read.
        TaskError: none of the tasks can be asked.
    """
    from circuits.models import load_model
    from patching.dictionaries.read import read_dictionaries

    read = read_dictionaries([dictionary])[0] if isinstance(dictionary, str) else dictionary
    opened = load_model(model)
    return quality(opened, read, prompts_for(opened, tasks, n, seed)[0], batch_size)


def check_quality(found: Quality, force: bool = False) -> None:
    """Refuse a dictionary that explains too little to be used, unless it is forced.

    Raises:
        MethodError: see above, with what it explains.
    """
    if not force and not found.explained >= LEAST_EXPLAINED:
        raise MethodError(
            f"this dictionary explains {found.explained:.1%} of the variance at {found.place}, "
            f"less than {LEAST_EXPLAINED:.0%}: it is probably of another model, place or scaling; "
            f"use it all the same with --force-dictionary (force=True)"
        )


def _placed(model: Model, dictionary: Dictionary) -> Dictionary:
    import torch

    return dictionary.to(torch.zeros((), dtype=torch.float32, device=model.device))


def _mean(model: Model, dictionary: Dictionary, every: list[PromptPairs], options: Sweep) -> Any:
    """The mean of what is taken apart, over all tokens but the first of each prompt."""
    import torch

    from patching.dictionaries.collect import inner
    from patching.dictionaries.readings import point_of, value_at
    from patching.runs import record
    from patching.sweep import sweep

    kinds = (point_of(dictionary.writes)[0],)

    def work(batch: Batch) -> tuple[np.ndarray, ...]:
        _, values = record(model, batch, "clean", kinds)
        y = value_at(model, dictionary.writes, values)[inner(batch.mask)].double()
        return y.sum(0).cpu().numpy(), np.array(len(y))

    parts = [part for pairs in every for part in sweep(model, pairs, work, options)]
    total, count = (sum(column) for column in zip(*parts, strict=True))
    return torch.tensor(total / count, dtype=torch.float32, device=model.device)


def _measured(
    model: Model, dictionary: Dictionary, mean: Any, batch: Batch
) -> tuple[np.ndarray, ...]:
    """Losses and right answers of the three runs, sums of squares and counts of firings."""
    import torch

    from patching.dictionaries.collect import inner
    from patching.dictionaries.readings import kinds_of, value_at
    from patching.dictionaries.splice import Splice
    from patching.forward import Record

    kept = inner(batch.mask)

    def mean_only(_: Dictionary, __: Any, y: Any) -> Any:
        return mean.expand_as(y)

    record = Record(kinds_of([dictionary]))
    with torch.no_grad():
        runs = [
            model.run(batch.clean, batch.mask, record),
            model.run(batch.clean, batch.mask, Splice(model, (dictionary,), only=kept)),
            model.run(batch.clean, batch.mask, Splice(model, (dictionary,), mean_only, kept)),
        ]
        x, y = (
            value_at(model, place, record.values)[kept].float()
            for place in (dictionary.reads, dictionary.writes)
        )
        amounts = dictionary.amounts(x)
        left = (y - dictionary.decode(amounts, x)).double().square().sum()
        spread = (y - mean).double().square().sum()
    judged = [_judged(logits, batch.pairs) for logits in runs]
    losses, rights = (np.stack(column, axis=1) for column in zip(*judged, strict=True))
    sums = np.array([float(left), float(spread), float(len(y))])
    return losses, rights, sums, (amounts > 0).sum(0).cpu().numpy().astype(float)


def _judged(logits: Any, pairs: PromptPairs) -> tuple[np.ndarray, np.ndarray]:
    from patching.metrics import log_prob

    top = logits.argmax(-1).cpu().numpy()[:, None]
    return -log_prob(logits, pairs).double().cpu().numpy(), (pairs.answer == top).any(1)


def prompts_for(
    model: Model, names: Iterable[str], n: int = 64, seed: int = 0
) -> tuple[list[PromptPairs], Mapping[str, str]]:
    """The prompts of some tasks, and why others cannot be asked of this model."""
    import tasks
    from circuits.split import split_options

    found, refused = [], {}
    for name in names:
        task = tasks.get(name)
        try:
            given = split_options(name, {}, model.path)
            found.append(task.pairs(model.tokenizer, n=n, seed=seed, **given))
        except TaskError as fault:
            refused[name] = str(fault)
    return found, refused
