"""Direct logit attribution: what each part adds to the answer's logit by itself.

The effect of a part is the one of :mod:`patching.direct_effect`, on the mean logit of the answers
less that of the counterfactual answers: positive where it favours the clean answer. All parts and
``rest``, what no part writes (biases), add up to the logit difference, before a soft-cap.
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
from circuits.studies.instruments.attention import RUNS, all_heads, answer_effects
from circuits.studies.instruments.measured import Measured, frame_of, plain_rows
from patching.direct_effect import read_out, writes_at_end
from patching.runs import Batch
from patching.sites import parse_site
from patching.sweep import Sweep, sweep
from tasks.errors import counted

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from circuits.clock import Progress
    from patching.model import Model
    from patching.sites import Site
    from tasks import PromptPairs

MOST_ROWS = 20


@dataclass(frozen=True, eq=False)
class DirectEffects(Reported):
    """Direct effects of all parts on the answer, by run, prompt and part, in logits."""

    n: int
    parts: tuple[str, ...]
    effects: Mapping[str, Measured]

    def to_frame(self) -> pd.DataFrame:
        """A row for every part: means over prompts and the ends of their intervals (95 %)."""
        return frame_of(self.effects, self.parts, "part")

    def report(self) -> Report:
        """The strongest parts of the clean run, and all heads as a picture."""
        frame = self.to_frame()
        order = frame["clean"].abs().sort_values(ascending=False, kind="stable").index
        told = f"{counted(self.n, 'prompt pair')}: direct effects on the answer, in logits"
        shown = frame[["clean", "clean low", "clean high", "corrupted"]]
        table = Table.of(shown.reindex(order), "", MOST_ROWS)
        return Report.of(told, table, Picture(self.figure, "direct effects of heads and MLPs"))

    def figure(self) -> Figure:
        """Heads and MLPs by layer, in both runs."""
        from circuits.studies.instruments.plot import by_layer

        means = {f"{run} run": measured.mean() for run, measured in self.effects.items()}
        return by_layer(self.parts, means, f"direct effects, {counted(self.n, 'prompt pair')}")

    def to_json(self) -> dict[str, Any]:
        """Plain values for another program; null where an interval is not defined."""
        return {"n": self.n, "parts": plain_rows(self.to_frame())}

    def __repr__(self) -> str:
        means = self.effects["clean"].mean()
        best = int(np.abs(means).argmax())
        return f"DirectEffects({self.parts[best]} {means[best]:+.3f}, of {len(self.parts)} parts)"


def direct_logit_attribution(
    model: Model,
    pairs: PromptPairs,
    *,
    batch_size: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> DirectEffects:
    """What each head, MLP and the input add to the answer directly; see :class:`DirectEffects`.

    >>> circuits.direct_logit_attribution(model, pairs)
    DirectEffects(... +..., of 22 parts)

    Raises:
        TaskError: the model cannot read the prompts.
    """
    check_kinds(model=model, pairs=pairs)
    layers = range(model.anatomy.n_layers)
    sites = [parse_site("input"), *all_heads(model), *(parse_site(f"m{i}") for i in layers)]
    options = Sweep(batch_size, progress).counting(len(pairs), "reading direct effects")
    rows = [*sweep(model, pairs, lambda batch: _effects(model, batch, sites), options)]
    parts = (*(site.name for site in sites), "rest")
    joined = np.concatenate(rows, axis=1)
    effects = {
        run: Measured(parts, pairs.by_prompt(values.T).T, seed)
        for run, values in zip(RUNS, joined, strict=True)
    }
    return DirectEffects(pairs.prompts, parts, effects)


def _effects(model: Model, batch: Batch, sites: list[Site]) -> Float[np.ndarray, "2 b parts"]:
    found = []
    for run in RUNS:
        _, writes, final = writes_at_end(model, batch, run, sites)
        rest = final.to(writes)[:, None] - writes.sum(1, keepdim=True)
        read = read_out(model, torch.cat([writes, rest], dim=1), final)
        # The norm's own bias is in no part's write, and is read as it stands.
        read[:, -1] += model.final_norm(torch.zeros_like(final)).to(read)
        found.append(answer_effects(model, batch, read))
    return np.stack(found)
