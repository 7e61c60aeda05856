"""What an All-for-One search found: every share measured, the stages chosen, and how it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from circuits.results.intervals import Proportion
from circuits.results.report import Picture, Report, Reported
from circuits.results.tables import Rows
from circuits.studies.allforone.stages import MAIN, Grid, Stages, best

if TYPE_CHECKING:
    import pandas as pd

    from circuits.evaluate import Evaluation
    from graphs import CircuitGraph
    from patching.ablation.means import MeanActivations
    from patching.scores import Scores
    from tasks import PromptPairs


@dataclass(frozen=True, slots=True)
class Pruning:
    """Heads in the order in which they were done without, and the share right without each.

    `kept` is the smallest set of the remaining ones that stays within the tolerance.
    """

    steps: tuple[tuple[str, Proportion], ...]
    kept: tuple[str, ...]
    share: Proportion


@dataclass(frozen=True)
class AllForOne(Reported):
    """Shares of prompts answered right; `asked` by the full model, all others of those right ones.

    waiting     by W: CAMA alone after block W, the rest of the model intact
    grids       by (W, T), for CAMA with ABP (the main one) and for every alternative to either
    necessity   by block: the last token sees no other token there, the rest is intact
    chosen      the latest W, and for it the smallest T, whose share is at least 1 - tolerance;
                None where no point is that good
    thin        how many of the conditional means (`keys`) are over fewer draws than `samples`
    options     options of the task that were asked for
    bos, chat   how texts were put to the model, as in :class:`circuits.config.Config`
    graph       the chosen subgraph, its heads pruned; every edge has its measured effect; where
                none is chosen, the point of the largest share
    """

    task: str
    model: str
    layers: int
    asked: Proportion
    tolerance: float
    samples: int
    keys: int
    thin: int
    waiting: Mapping[int, Proportion]
    grids: Mapping[str, Grid]
    necessity: Mapping[int, Proportion]
    chosen: Stages | None
    pruned: Pruning | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    bos: bool | None = None
    chat: str = ""
    graph: CircuitGraph | None = None
    scores: Scores | None = field(default=None, repr=False)
    evaluation: Evaluation | None = field(default=None, repr=False)
    means: MeanActivations | None = field(default=None, repr=False)
    pairs: PromptPairs | None = field(default=None, repr=False)

    @property
    def title(self) -> str:
        """What was asked of which model: `mental_math (form=-) on nano`."""
        put = {"bos": self.bos, "chat": self.chat}
        put = {name: value for name, value in put.items() if value not in (None, "")}
        options = ", ".join(f"{name}={value}" for name, value in {**self.options, **put}.items())
        task = (self.task or "prompt pairs") + (f" ({options})" if options else "")
        known = self.model not in ("", "in memory")
        return f"{task} on {self.model if known else 'a model in memory'}"

    @property
    def grid(self) -> Grid:
        """CAMA with ABP, by (W, T)."""
        return self.grids[MAIN]

    @property
    def faithfulness(self) -> Proportion | None:
        """Share of the full model's right answers that the chosen subgraph gives as well."""
        return None if self.chosen is None else self.grid[self.chosen.wait, self.chosen.transfer]

    @property
    def cliff(self) -> tuple[int, Proportion, Proportion] | None:
        """W chosen, its best share over T, and the best share when one block more waits."""
        if self.chosen is None:
            return None
        wait = self.chosen.wait
        return wait, best(self.grid, wait), best(self.grid, wait + 1)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file; shares as right, n and the ends of their interval."""
        chosen = self.chosen
        return {
            "task": self.task,
            "options": {name: str(value) for name, value in self.options.items()},
            "bos": self.bos,
            "chat": self.chat,
            "model": self.model,
            "layers": self.layers,
            "indices": "W: residual stream after block W, from 0; -1 is the embedding",
            "full_model": self.asked.to_json(),
            "tolerance": self.tolerance,
            "samples": self.samples,
            "conditional_means": self.keys,
            "conditional_means_with_fewer_samples": self.thin,
            "waiting": [{"wait": w, **s.to_json()} for w, s in self.waiting.items()],
            "grids": {
                name: [
                    {"wait": w, "transfer": t, **share.to_json()} for (w, t), share in grid.items()
                ]
                for name, grid in self.grids.items()
            },
            "necessity": [{"block": b, **s.to_json()} for b, s in self.necessity.items()],
            "chosen": None
            if chosen is None
            else {
                "wait": chosen.wait,
                "transfer": chosen.transfer,
                **self.grid[chosen.wait, chosen.transfer].to_json(),
            },
            "heads": None
            if self.pruned is None
            else {
                "without": [{"head": h, **s.to_json()} for h, s in self.pruned.steps],
                "kept": list(self.pruned.kept),
                **self.pruned.share.to_json(),
            },
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per grid, W and T: the share of right answers kept, with its interval."""
        import pandas as pd

        rows = {
            (name, *point): (share.value, share.right, share.n, *share.interval)
            for name, grid in self.grids.items()
            for point, share in grid.items()
        }
        index = pd.MultiIndex.from_tuples(rows, names=["grid", "wait", "transfer"])
        columns = ["share", "right", "n", "low", "high"]
        return pd.DataFrame(list(rows.values()), index, columns)

    def report(self) -> Report:
        """The grid of stages as a picture, and what was chosen."""
        from circuits.studies.allforone.plot import draw
        from circuits.studies.allforone.text import summary

        return Report.of(Picture(lambda: draw(self), "the grid of stages"), Rows(summary(self)))

    def __str__(self) -> str:
        from circuits.studies.allforone.text import describe

        return describe(self)

    def __repr__(self) -> str:
        at = "no stages" if self.chosen is None else self.chosen
        return f"AllForOne({self.task or 'prompt pairs'}: {at}, faithfulness {self.faithfulness})"
