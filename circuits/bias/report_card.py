"""The report card as a value: what `report.json` holds, and how it shows itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class ReportCard(dict[str, Any]):
    """Every way of answering, measured on held-out questions; plain values by name.

    ``ways`` has the measures of each way (no edit, rivals, recipes, controls), ``bars`` what is
    asked of the chosen edit, ``others`` the side effects; :mod:`circuits.fields` says the rest.
    """

    def to_frame(self) -> pd.DataFrame:
        """One row per way and measure: value, and the ends of its 95 % bootstrap interval."""
        import pandas as pd

        rows = {}
        for way, measures in self["ways"].items():
            for name, found in measures.items():
                plain = found if isinstance(found, Mapping) else {"value": found}
                rows[way, name] = {end: plain.get(end) for end in ("value", "low", "high")}
        frame = pd.DataFrame(rows, dtype=float).T
        return frame.rename_axis(index=["way", "measure"])

    def __repr__(self) -> str:
        questions = self["questions"]["test"]
        met = f"{sum(bar['met'] for bar in self['bars'])} of {len(self['bars'])} bars met"
        told = f"{self['chosen']}, {met}" if self["chosen"] else "no edit was better than none"
        return f"ReportCard({questions} held-out questions: {told})"

    def _repr_html_(self) -> str:
        from circuits.bias.report_text import figure, ways_table
        from circuits.display import picture_html, rows_html, table_html

        knows = self["knows"]
        rows = {
            "chosen edit": str(self["plan"] or "none: nothing was better than doing nothing"),
            "right without the letters' prior": f"{knows['accuracy without prior']['value']:.1%}"
            f" of the questions; chance is {knows['chance']:.1%}",
        }
        for bar in self["bars"]:
            met = "met" if bar["met"] else "missed"
            rows[bar["bar"]] = f"{bar['measured']:+.3f}, {met}"
        picture = picture_html(figure(self), "accuracy and share of A, by way of answering")
        return rows_html(rows) + picture + table_html(*ways_table(self))
