"""What a validation found: every estimate beside the exact effect, as a table and plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from circuits.results.intervals import Estimate

if TYPE_CHECKING:
    import pandas as pd

KIND = "circuits validation"


@dataclass(frozen=True)
class Comparison:
    """One estimate against the exact effect, for one kind of site and one direction.

    ``exact`` and ``estimate`` are mean effects by site, in units of the metric. ``seconds`` is the
    estimate's time (kinds that are estimated in one go share it equally), ``exact_seconds`` that
    of the exact sweep of the same sites.
    """

    method: str
    kind: str
    direction: str
    measures: dict[str, Estimate]
    seconds: float
    exact_seconds: float
    names: tuple[str, ...]
    exact: Float[np.ndarray, " s"]
    estimate: Float[np.ndarray, " s"]


@dataclass(frozen=True)
class SiteSample:
    """How many sites of a kind were compared, and how many there are."""

    compared: int
    all: int

    @property
    def sampled(self) -> bool:
        """Whether some were left out."""
        return self.compared < self.all


@dataclass(frozen=True)
class Validation:
    """All comparisons, with how they were made."""

    comparisons: tuple[Comparison, ...]
    task: str
    model: str
    model_hash: str
    metric: str
    count: int
    total_effect: float
    sites: Mapping[str, SiteSample] = field(default_factory=dict)

    def sampled(self) -> str:
        """Of which kinds not all sites were compared, in words; empty where all were."""
        some = [f"{u.compared} of {u.all} {kind}" for kind, u in self.sites.items() if u.sampled]
        return f"a sample: {', '.join(some)}" if some else ""

    def to_frame(self) -> pd.DataFrame:
        """One row per method, kind and direction."""
        import pandas as pd

        rows = []
        for c in self.comparisons:
            row: dict[str, Any] = {"method": c.method, "kind": c.kind, "direction": c.direction}
            for name, measure in c.measures.items():
                row |= {name: measure.value, f"{name}_low": measure.low}
                row[f"{name}_high"] = measure.high
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
            row["measures"] = {name: measure.to_json() for name, measure in c.measures.items()}
            rows.append(row | {"names": list(c.names)})
        head = {k: v for k, v in asdict(self).items() if k != "comparisons"}
        return {"kind": KIND, "schema_version": "2.0"} | head | {"comparisons": rows}

    def __repr__(self) -> str:
        methods = len({c.method for c in self.comparisons})
        return f"Validation({self.task or 'prompt pairs'}: {methods} methods, {self.count} pairs)"

    def _repr_html_(self) -> str:
        from circuits.results.tables import Table

        caption = f"{self!r}: Pearson correlation with the exact effect"
        return Table.of(self.summary(), caption).html()
