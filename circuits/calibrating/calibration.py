"""How far each estimate can be trusted on your model and your task.

The papers' figures are for the papers' models. Here every estimate is held against the exact
effect of the same sites, for the same prompts, in both directions: correlation, ranks, signs and
the strongest sites, with bootstrap intervals over prompts, and the time each takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from circuits.calibrating.agreement import Interval, agreement
from patching.written import read_method
from tasks.errors import MethodError, unknown

if TYPE_CHECKING:
    import pandas as pd

    from circuits.clock import Progress
    from patching.metrics import Metric
    from patching.model import Model
    from tasks import PromptPairs

KINDS = ("resid_pre", "attn_out", "mlp_out", "z", "q", "k", "v")
"""Kinds of sites compared by default; ``edge`` is compared when asked for."""

STREAMS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")

METHODS = (
    "attribution",
    "attribution:qk_fix=true",
    "relevance",
    "ig",
    "secant",
    "secant:share=0.5",
    "secant:share=0.5+qk_fix=true",
    "ensemble",
)

DIRECTIONS = ("noising", "denoising")
KIND = "circuits calibration"


@dataclass(frozen=True)
class Comparison:
    """One estimate against the exact effect, for one kind of site and one direction.

    ``exact`` and ``estimate`` are mean effects by site, in units of the metric. ``seconds`` is the
    estimate's time, ``exact_seconds`` that of the exact sweep of the same sites.
    """

    method: str
    kind: str
    direction: str
    measures: dict[str, Interval]
    seconds: float
    exact_seconds: float
    names: tuple[str, ...]
    exact: Float[np.ndarray, " s"]
    estimate: Float[np.ndarray, " s"]


@dataclass(frozen=True)
class Calibration:
    """All comparisons, with how they were made."""

    comparisons: tuple[Comparison, ...]
    task: str
    model: str
    model_hash: str
    metric: str
    count: int
    total_effect: float

    def to_frame(self) -> pd.DataFrame:
        """One row per method, kind and direction."""
        import pandas as pd

        rows = []
        for c in self.comparisons:
            row: dict[str, Any] = {"method": c.method, "kind": c.kind, "direction": c.direction}
            for name, interval in c.measures.items():
                row |= {name: interval.value, f"{name}_low": interval.low}
                row[f"{name}_high"] = interval.high
            largest = float(np.abs(c.exact).max())
            rows.append(row | {"largest": largest, "seconds": c.seconds, "exact": c.exact_seconds})
        return pd.DataFrame(rows)

    def summary(self) -> pd.DataFrame:
        """Mean Pearson correlation over directions: a row per method, a column per kind."""
        frame = self.to_frame()
        table = frame.pivot_table(index="method", columns="kind", values="pearson", sort=False)
        table["mean"] = table.mean(axis=1)
        table["seconds"] = frame.groupby("method", sort=False)["seconds"].sum()
        return table

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file; what is not a number is null."""
        rows = []
        for c in self.comparisons:
            row = asdict(c) | {"exact": c.exact.tolist(), "estimate": c.estimate.tolist()}
            row["measures"] = {
                name: {k: v if math.isfinite(v) else None for k, v in asdict(interval).items()}
                for name, interval in c.measures.items()
            }
            rows.append(row | {"names": list(c.names)})
        head = {k: v for k, v in asdict(self).items() if k != "comparisons"}
        return {"kind": KIND, "schema_version": "1.0"} | head | {"comparisons": rows}

    def __repr__(self) -> str:
        methods = len({c.method for c in self.comparisons})
        return f"Calibration({self.task or 'prompt pairs'}: {methods} methods, {self.count} pairs)"

    def _repr_html_(self) -> str:
        from circuits.display import frame_html

        return frame_html(self.summary(), f"{self!r}: Pearson correlation with the exact effect")


def calibrate(
    model: Model,
    pairs: PromptPairs,
    methods: Sequence[str] = METHODS,
    kinds: Sequence[str] = KINDS,
    *,
    directions: Sequence[str] = DIRECTIONS,
    metric: str | Metric | None = None,
    positions: str | None = None,
    batch_size: int = 32,
    resamples: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> Calibration:
    """Every estimate beside the exact effect, per kind of site and direction.

    A method is written with its options, such as ``relevance:rules=gim``. Residual-stream kinds
    are compared at each position (``token`` where all prompts are equally long, else ``named``,
    else ``all``), heads over all positions, ``edge`` over all edges.

    >>> circuits.calibrate(model, pairs, ["secant", "ig:steps=3"], ["z"]).to_frame().shape
    (4, 18)

    Raises:
        MethodError: an unknown method, option, kind or direction.
    """
    asked = check_asked(methods, kinds, directions)
    metric = metric or pairs.metric
    comparisons: list[Comparison] = []
    cells = [(kind, direction) for kind in kinds for direction in directions]
    for done, (kind, direction) in enumerate(cells):
        if progress:
            progress(done, len(cells), f"{kind}, {direction}")
        cell = _Cell(model, pairs, kind, direction, metric, positions, batch_size)
        names, exact, exact_seconds = cell.measure("activation", {})
        for text, (name, options) in asked.items():
            _, rows, seconds = cell.measure(name, options)
            comparisons.append(
                Comparison(
                    method=text,
                    kind=kind,
                    direction=direction,
                    measures=agreement(exact, rows, resamples=resamples, seed=seed),
                    seconds=seconds,
                    exact_seconds=exact_seconds,
                    names=names,
                    exact=exact.mean(0),
                    estimate=rows.mean(0),
                )
            )
    return _calibration(model, pairs, metric, comparisons, batch_size)


@dataclass(frozen=True)
class _Cell:
    """One kind of site in one direction, on which every method is measured alike."""

    model: Model
    pairs: PromptPairs
    kind: str
    direction: str
    metric: str | Metric
    positions: str | None
    batch_size: int

    def measure(
        self, method: str, options: dict[str, Any]
    ) -> tuple[tuple[str, ...], Float[np.ndarray, "n s"], float]:
        """Names, per-prompt scores and seconds of one method."""
        from patching.scoring import prompt_scores

        level = self.kind if self.kind in ("edge", "node") else "site"
        begin = perf_counter()
        scores, rows = prompt_scores(
            self.model,
            self.pairs,
            method,
            level,
            self.direction,
            self.metric,
            sites="node" if level != "site" else self.kind,
            positions=self.positions or _positions(self.kind, self.pairs),
            batch_size=self.batch_size,
            **options,
        )
        return scores.names, rows, perf_counter() - begin


def _calibration(
    model: Model,
    pairs: PromptPairs,
    metric: str | Metric,
    comparisons: list[Comparison],
    batch_size: int,
) -> Calibration:
    from circuits.models import name_of
    from patching.metrics import metric_name
    from patching.runs import baselines

    clean, corrupted = baselines(model, pairs, metric, batch_size)
    return Calibration(
        comparisons=tuple(comparisons),
        task=pairs.task,
        model=name_of(model.path),
        model_hash=model.hash,
        metric=metric_name(metric),
        count=len(pairs),
        total_effect=float((clean - corrupted).mean()),
    )


def _positions(kind: str, pairs: PromptPairs) -> str:
    if kind not in STREAMS:
        return "all"
    if len(np.unique(pairs.mask.sum(1))) == 1:
        return "token"
    return "named" if pairs.positions else "all"


def check_asked(
    methods: Sequence[str], kinds: Sequence[str], directions: Sequence[str] = DIRECTIONS
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Every method as it is written, with its name and options; nothing is opened for it.

    Raises:
        MethodError: an unknown method, option, kind or direction.
    """
    from patching.measure import check_reached
    from patching.setting import check_direction
    from patching.sitesets import KINDS as SITES

    for kind in kinds:
        if kind not in (*SITES, "edge"):
            raise MethodError(unknown("kind of site", kind, (*SITES, "edge")))
    for direction in directions:
        check_direction(direction)
    asked = {text: parse_method(text) for text in methods}
    for name, options in asked.values():
        for kind in kinds:
            check_reached(name, options, kind)
    return asked


def parse_method(text: str) -> tuple[str, dict[str, Any]]:
    """A method and its options from ``name:option=value+option=value``.

    Raises:
        MethodError: an unknown method or option, or a value that cannot be read.
    """
    name, options = read_method(text)
    if name == "activation":
        raise MethodError("activation is what the estimates are compared with; name another method")
    return name, options
