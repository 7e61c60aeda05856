"""Steering by a latent: what a strength does to a task, and what it costs in fluency.

``strength`` times the latent's mean amount (where it fires on text) is added to it: always, on all
tokens of texts in which it fires, or only on tokens on which it fires
(:mod:`patching.latent_change`). For each, on the same prompts and texts: the task's metric and
right answers, and the perplexity of plain text. A latent is worth steering by where the first moves
and the second stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.dictionaries.meaning import latent_of
from circuits.dictionaries.study import read_all, task_prompts
from circuits.dictionaries.text import TASKS, text_rows
from circuits.evaluation.outcomes import judge
from circuits.results.intervals import Proportion
from circuits.results.report import Report, Reported
from circuits.results.tables import Rows, Table
from tasks.errors import MethodError

if TYPE_CHECKING:
    import pandas as pd

    from circuits.clock import Progress
    from patching.capture import Prompts
    from patching.dictionaries.dictionary import Dictionary
    from patching.latent_change import LatentChange
    from patching.model import Model
    from tasks import PromptPairs

STRENGTHS = (-8.0, -4.0, -2.0, 2.0, 4.0, 8.0)
TITLES = ("where", "strength", "metric", "right", "perplexity", "tokens changed")


@dataclass(frozen=True, slots=True)
class Steered:
    """One tier at one strength.

    touched  share of the plain text's tokens that are changed
    """

    where: str
    strength: float
    metric: float
    right: Proportion
    perplexity: float
    touched: float

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {**asdict(self), "right": self.right.to_json()}


@dataclass(frozen=True, repr=False)
class Steering(Reported):
    """What steering by a latent does; ``plain`` is the model as it is."""

    name: str
    task: str
    metric: str
    mean: float
    plain: Steered
    points: tuple[Steered, ...]
    tokens: int

    def __repr__(self) -> str:
        return f"Steering({self.name} on {self.task}, {len(self.points)} settings)"

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        names = ("name", "task", "metric", "mean", "tokens")
        return {
            **{name: getattr(self, name) for name in names},
            "plain": self.plain.to_json(),
            "points": [point.to_json() for point in self.points],
        }

    def to_frame(self) -> pd.DataFrame:
        """A row per tier and strength, the model as it is first."""
        import pandas as pd

        rows = [asdict(point) | {"right": point.right.value} for point in self._all]
        return pd.DataFrame(rows)

    @property
    def _all(self) -> tuple[Steered, ...]:
        return (self.plain, *self.points)

    def report(self) -> Report:
        """Every tier and strength beside the model as it is."""
        rows = {
            "latent": self.name,
            "task": f"{self.task}, {self.plain.right.n} prompts, {self.metric}",
            "a strength of 1": f"its mean amount where it fires, {self.mean:.3f}",
            "plain text": f"{self.tokens:,} tokens",
        }
        lines = [
            [
                point.where,
                f"{point.strength:+g}" if point.strength else "",
                f"{point.metric:+.3f}",
                f"{point.right.value:.1%}",
                f"{point.perplexity:.3f}",
                f"{point.touched:.1%}",
            ]
            for point in self._all
        ]
        return Report.of(Rows(rows), Table(TITLES, lines))


def steer_latent(
    model: Model | str,
    name: str,
    task: str | PromptPairs,
    dictionaries: Iterable[str | Dictionary],
    *,
    strengths: Sequence[float] = STRENGTHS,
    metric: str | None = None,
    n: int = 64,
    text: str = TASKS,
    tokens: int = 4000,
    seed: int = 0,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Steering:
    """Steer by a latent in three ways, at several strengths.

    ``name`` is a latent's, such as ``resid_post.3.f12``, of one of the ``dictionaries`` (read ones,
    ``PATH`` or ``SITE=PATH``). The ``strengths`` are multiples of its mean amount where it fires.

    >>> made = circuits.train_dictionary(model, latents=64, k=8, steps=40, tokens=2000, n=8)
    >>> circuits.steer_latent(
    ...     model, "resid_post.1.f3", "ioi", [made.dictionary], strengths=[4], n=8, tokens=500
    ... )
    Steering(resid_post.1.f3 on ioi, 3 settings)

    Raises:
        SiteError: no dictionary has such a latent, or its dictionary does not fit the model.
        MethodError: no strength, one that is zero or not finite, or a latent that never fires.
        TaskError: no prompts, or no text.
    """
    from circuits.models import load_model
    from patching.dictionaries.readings import check_fit
    from patching.latent_change import TIERS

    if not strengths or not all(np.isfinite(s) and s for s in strengths):
        raise MethodError(f"strengths are {list(strengths)}; give numbers that are not zero")
    dictionary, number = latent_of(read_all(dictionaries), name)
    opened = load_model(model)
    check_fit(opened, dictionary)
    pairs = task_prompts(opened, task, n, seed)
    rows = text_rows(opened, text, tokens, seed, progress)
    bench = _Bench.of(opened, dictionary, number, pairs, metric or pairs.metric, rows, batch_size)
    plain = bench.measure("as it is", 0.0)
    points = []
    for at, (where, strength) in enumerate((w, s) for w in TIERS for s in strengths):
        points.append(bench.measure(where, strength))
        if progress is not None:
            progress(at + 1, len(TIERS) * len(strengths), "steering")
    return Steering(
        name=name,
        task=pairs.task,
        metric=bench.metric,
        mean=bench.mean,
        plain=plain,
        points=tuple(points),
        tokens=int(bench.texts.mask[:, :-1].sum()),
    )


@dataclass(frozen=True)
class _Bench:
    """The prompts and texts on which a latent is steered; ``amounts`` are those of the texts."""

    model: Model
    dictionary: Dictionary
    number: int
    pairs: PromptPairs
    metric: str
    texts: Prompts
    amounts: np.ndarray
    batch_size: int
    mean: float = 0.0

    @classmethod
    def of(
        cls,
        model: Model,
        dictionary: Dictionary,
        number: int,
        pairs: PromptPairs,
        metric: str,
        rows: Sequence[Sequence[int]],
        batch_size: int,
    ) -> _Bench:
        """Measure how much of the latent the texts have.

        Raises:
            MethodError: it never fires there.
        """
        from patching.capture import Prompts

        texts = Prompts.of(sorted(rows, key=len))
        made = cls(
            model, dictionary, number, pairs, metric, texts, np.zeros(texts.mask.shape), batch_size
        )
        amounts = made._amounts()
        if not (amounts > 0).any():
            raise MethodError(
                f"{dictionary.latent(number)} never fires on this text, so there is no amount to "
                f"steer by; give more --tokens, or another --text"
            )
        return replace(made, amounts=amounts, mean=float(amounts[amounts > 0].mean()))

    def _amounts(self) -> np.ndarray:
        """How much of the latent every token has; padding has none."""
        import torch

        from patching.dictionaries.readings import kinds_of
        from patching.forward import Record

        change = self._change("always", 0.0)
        width = self.texts.mask.shape[1]

        def work(tokens: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
            record = Record(kinds_of([self.dictionary]))
            with torch.no_grad():
                self.model.run(tokens, mask, record)
                amounts = change.amount(record.values[change.reads]) * mask
            padded = np.zeros((len(tokens), width))
            padded[:, width - tokens.shape[1] :] = amounts.cpu().numpy()
            return padded

        found = [*self.texts.sweep(self.model, work, self._sweep())]
        return np.concatenate(found)

    def _sweep(self) -> Any:
        from patching.sweep import Sweep

        return Sweep(self.batch_size)

    def _change(self, where: str, strength: float) -> LatentChange:
        from patching.latent_change import LatentChange, altered

        new = altered(add=strength * self.mean)
        return LatentChange.of(self.model, self.dictionary, self.number, new, where)

    def measure(self, where: str, strength: float) -> Steered:
        """One tier at one strength; at 0 the model as it is."""
        import torch

        from patching.edits import edit_tap
        from patching.metrics import check_metric
        from patching.runs import Batch
        from patching.sweep import sweep
        from patching.text_loss import text_loss

        changes = [self._change(where, strength)] if strength else []
        checked = check_metric(self.metric)

        def answers(batch: Batch) -> list[np.ndarray]:
            with torch.no_grad():
                logits = self.model.run(batch.clean, batch.mask, edit_tap(changes, batch.mask))
            return judge(logits, batch.pairs, checked)

        def losses(tokens: torch.Tensor, mask: torch.Tensor) -> tuple[float, int]:
            return text_loss(self.model, tokens, mask, edit_tap(changes, mask))

        parts = [*sweep(self.model, self.pairs, answers, self._sweep())]
        metric, _, right = (np.concatenate(each) for each in zip(*parts, strict=True))
        loss, count = zip(*self.texts.sweep(self.model, losses, self._sweep()), strict=True)
        return Steered(
            where=where,
            strength=strength,
            metric=float(metric.mean()),
            right=Proportion(int(right.sum()), len(right)),
            perplexity=exp(sum(loss) / sum(count)),
            touched=self._touched(where) if strength else 0.0,
        )

    def _touched(self, where: str) -> float:
        mask, fires = self.texts.mask, self.amounts > 0
        if where == "token":
            return float(fires.sum() / mask.sum())
        if where == "text":
            return float(mask[fires.any(1)].sum() / mask.sum())
        return 1.0
