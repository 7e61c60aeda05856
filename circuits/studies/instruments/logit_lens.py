"""The logit lens: what the model would answer if it stopped after each layer.

The stream ``x`` behind a layer, at the last position, goes through the final norm and the
unembedding as if it were the last: ``logits = unembed(norm(x))`` (nostalgebraist 2020). Its last
row is the model's own answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from circuits.arguments import check_kinds
from circuits.results.report import Picture, Report, Reported
from circuits.results.tables import Table
from circuits.studies.instruments.measured import Measured, frame_of, plain_rows
from patching.direct_effect import AtTheEnd
from patching.metrics import CheckedMetric, check_metric
from patching.runs import Batch
from patching.sweep import Sweep, sweep
from tasks.errors import counted

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from circuits.clock import Progress
    from patching.model import Model
    from tasks import PromptPairs

RUNS = ("clean", "corrupted")


@dataclass(frozen=True, eq=False)
class LogitLens(Reported):
    """The answer after every layer, by prompt and point.

    points        ``input``, then ``resid_post.0`` to the last layer's
    metrics       the metric by run
    probability   probability of the clean answer, in the clean run
    right         whether a right answer is the most likely word, in the clean run
    """

    metric: str
    n: int
    points: tuple[str, ...]
    metrics: Mapping[str, Measured]
    probability: Measured
    right: Measured

    def to_frame(self) -> pd.DataFrame:
        """A row for every point: means over prompts and the ends of their intervals (95 %)."""
        columns = {f"{self.metric}, {run}": values for run, values in self.metrics.items()}
        columns |= {"probability": self.probability, "right": self.right}
        return frame_of(columns, self.points, "after")

    def report(self) -> Report:
        """The table and its picture."""
        told = (
            f"{counted(self.n, 'prompt pair')}: the answer if the model stopped there (means; "
            f"their intervals are in to_frame() and --json)"
        )
        frame = self.to_frame()
        means = frame[[name for name in frame if not name.endswith((" low", " high"))]]
        picture = Picture(self.figure, "the metric after every layer")
        return Report.of(told, Table.of(means), picture)

    def figure(self) -> Figure:
        """The metric of both runs by layer, with intervals."""
        from circuits.studies.instruments.plot import by_point

        told = f"logit lens, {counted(self.n, 'prompt pair')}"
        return by_point(self.points, self.metrics, self.metric, told)

    def to_json(self) -> dict[str, Any]:
        """Plain values for another program; null where an interval is not defined."""
        return {"metric": self.metric, "n": self.n, "points": plain_rows(self.to_frame())}

    def __repr__(self) -> str:
        best = self.metrics["clean"].mean()[-1]
        return f"LogitLens({len(self.points)} points, {self.metric} {best:+.3f} at the last)"


def logit_lens(
    model: Model,
    pairs: PromptPairs,
    *,
    metric: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> LogitLens:
    """The answer that the stream behind every layer would give; see :class:`LogitLens`.

    >>> circuits.logit_lens(model, pairs)
    LogitLens(5 points, logit_diff +... at the last)

    Raises:
        MethodError: an unknown metric.
        TaskError: the model cannot read the prompts.
    """
    check_kinds(model=model, pairs=pairs)
    checked = check_metric(metric or pairs.metric)
    options = Sweep(batch_size, progress).counting(2 * len(pairs), "reading every layer")
    found = np.concatenate(
        [*sweep(model, pairs, lambda batch: _read(model, batch, checked), options, 2)], axis=2
    )
    points = ("input", *(f"resid_post.{layer}" for layer in range(model.anatomy.n_layers)))
    every = [Measured(points, pairs.by_prompt(values).T, seed) for values in found]
    clean, corrupted, probability, right = every
    metrics = {"clean": clean, "corrupted": corrupted}
    return LogitLens(checked.name, pairs.prompts, points, metrics, probability, right)


@torch.no_grad()
def _read(model: Model, batch: Batch, metric: CheckedMetric) -> Float[np.ndarray, "4 points b"]:
    """The metric in both runs, then probability and rightness of the answer in the clean one."""
    rows: dict[str, list[np.ndarray]] = {"clean": [], "corrupted": [], "p": [], "right": []}
    ids = torch.tensor(batch.pairs.answer, device=model.device)
    known = ids >= 0
    for run in RUNS:
        tap = AtTheEnd(("input", "resid_post"))
        model.run(batch.tokens(run), batch.mask, tap)
        for value in tap.values.values():
            logits = model.unembed(value[:, 0])
            rows[run].append(metric(logits, batch.pairs).double().cpu().numpy())
            if run == "clean":
                shares = logits.double().softmax(-1).gather(1, ids.clamp_min(0)) * known
                rows["p"].append(shares.sum(1).cpu().numpy())
                best = logits.argmax(-1, keepdim=True)
                rows["right"].append(((best == ids) & known).any(1).double().cpu().numpy())
    return np.stack([np.stack(values) for values in rows.values()])
