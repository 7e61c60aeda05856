"""Path patching: which parts act on the answer by their direct ways into chosen receivers.

The effect is exact (:mod:`patching.path_patching`): positive where what the sender says in the
clean run, read by the receivers, pushes the metric towards the clean answer. As in Wang et al.
2022, receivers such as the queries of the name movers show which heads steer them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.arguments import check_kinds
from circuits.results.report import Picture, Report, Reported
from circuits.results.tables import Table
from circuits.studies.instruments.measured import Measured, frame_of, plain_rows
from patching.metrics import check_metric
from patching.path_patching import PathSweep, receivers_of, senders_to
from patching.setting import Setting, check_direction
from patching.sweep import Sweep, sweep
from tasks.errors import counted

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from circuits.clock import Progress
    from patching.choices import Direction
    from patching.model import Model
    from patching.runs import Batch
    from tasks import PromptPairs

MOST_ROWS = 20


@dataclass(frozen=True, eq=False)
class PathEffects(Reported):
    """Effects of senders by their direct ways into the receivers, in units of the metric.

    receivers   the ports that were patched together, such as ``a3.h0<q>``
    parts       the senders that at least one of them reads
    effects     by prompt and sender
    """

    metric: str
    direction: str
    n: int
    receivers: tuple[str, ...]
    parts: tuple[str, ...]
    effects: Measured

    def to_frame(self) -> pd.DataFrame:
        """A row for every sender: the mean over prompts and the ends of its interval (95 %)."""
        return frame_of({"effect": self.effects}, self.parts, "sender")

    def report(self) -> Report:
        """The strongest senders, and all heads and MLPs as a picture."""
        frame = self.to_frame()
        order = frame["effect"].abs().sort_values(ascending=False, kind="stable").index
        table = Table.of(frame.reindex(order), "", MOST_ROWS)
        return Report.of(self._title, table, Picture(self.figure, "effects of heads and MLPs"))

    def figure(self) -> Figure:
        """Heads and MLPs by layer."""
        from circuits.studies.instruments.plot import by_layer

        return by_layer(self.parts, {self.metric: self.effects.mean()}, self._title)

    @property
    def _title(self) -> str:
        to = ", ".join(self.receivers)
        return f"{counted(self.n, 'prompt pair')}: direct ways into {to}, {self.direction}"

    def to_json(self) -> dict[str, Any]:
        """Plain values for another program; null where an interval is not defined."""
        said = {"metric": self.metric, "direction": self.direction, "n": self.n}
        return {**said, "receivers": list(self.receivers), "senders": plain_rows(self.to_frame())}

    def __repr__(self) -> str:
        means = self.effects.mean()
        best = int(np.abs(means).argmax())
        to = ", ".join(self.receivers)
        return f"PathEffects({self.parts[best]} {means[best]:+.3f}, of {len(means)} into {to})"


def path_patching(
    model: Model,
    pairs: PromptPairs,
    *,
    receivers: str | Iterable[str] = "logits",
    direction: Direction = "noising",
    metric: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> PathEffects:
    """The exact effect of every sender by its ways into the receivers; see :class:`PathEffects`.

    `receivers` are heads with a port (``a3.h0<q>``) or without (all three), MLPs (``m3``) or
    ``logits``; several are patched together. `seed` draws the bootstrap of the intervals.

    >>> circuits.path_patching(model, pairs, receivers="a3.h0<q>")
    PathEffects(... of ... into a3.h0<q>)

    Raises:
        SiteError: no such receiver in this model.
        MethodError: an unknown direction or metric.
        TaskError: the model cannot read the prompts.
    """
    check_kinds(model=model, pairs=pairs)
    check_direction(direction)
    checked = check_metric(metric or pairs.metric)
    ports = receivers_of(receivers, model.anatomy)
    options = Sweep(batch_size, progress).counting(len(pairs), "patching paths")

    def work(batch: Batch) -> np.ndarray:
        effects = PathSweep(Setting(model, batch, checked, direction), ports).effects()
        return effects.double().cpu().numpy()

    values = np.concatenate([*sweep(model, pairs, work, options)], axis=1)
    parts = tuple(site.name for site in senders_to(ports, model.anatomy))
    names = tuple(site.name + (f"<{port}>" if port else "") for site, port in ports)
    effects = Measured(parts, pairs.by_prompt(values).T, seed)
    return PathEffects(checked.name, direction, pairs.prompts, names, parts, effects)
