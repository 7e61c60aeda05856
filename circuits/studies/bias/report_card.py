"""The report card as a value: what `report.json` holds, and how it shows itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from circuits.results.report import Picture, Report
from circuits.results.tables import Rows

if TYPE_CHECKING:
    import pandas as pd


KIND = "circuits report card"


class ReportCard(dict[str, Any]):
    """Every way of answering, measured on held-out questions; plain values by name.

    about      each way of answering in reading order: what it does, the places it edits, how many
               candidates of its recipe were tried, its gain on training questions, the verdict
    conditions the measures of each condition: accuracy, share of A, RStd, CKLD, consistency, flips
    criteria   what is asked of the chosen edit, and whether it does it
    knows      whether the model is right more often than chance without its letter prior
    others     side effects on other tasks and plain text; ``others_missing`` says what has none
    templates  the same questions in other forms, and questions of random words
    random     how far random edits of the chosen one's norm move the share of A, one per draw
    paper      the published edit, which uses the right answers
    localised  the parts that write the bias

    Measured values are ``{"value", "interval", "n"}``, with the 95 % bootstrap interval; null is
    what could not be measured, ``"Infinity"`` what is infinite. ``print(card)`` shows the tables.

    >>> circuits.ReportCard(chosen=None).chosen is None
    True
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The conditions of answering in reading order."""
        return tuple(about["condition"] for about in self["about"])

    @property
    def chosen(self) -> str | None:
        """The recipe of the chosen edit; None where nothing was better than doing nothing."""
        recipe: str | None = self["chosen"]
        return recipe

    def value(self, condition: str, measure: str) -> float:
        """One measured number, without its interval; nan where it could not be measured."""
        measured = self["conditions"][condition][measure]
        number = measured["value"] if isinstance(measured, Mapping) else measured
        return float("nan") if number is None else float(number)

    def to_frame(self) -> pd.DataFrame:
        """One row per way and measure: value, and the ends of its 95 % bootstrap interval."""
        import pandas as pd

        rows = {}
        for condition in self.names:
            for name, each in self["conditions"][condition].items():
                count = not isinstance(each, Mapping)
                value, ends = (each, None) if count else (each["value"], each["interval"])
                rows[condition, name] = (value, *(ends or (None, None)))
        frame = pd.DataFrame(rows, ["value", "low", "high"], dtype=float).T
        return frame.rename_axis(index=["condition", "measure"])

    def __repr__(self) -> str:
        questions = self["questions"]["test"]
        criteria = self["criteria"]
        met = f"{sum(c['met'] for c in criteria)} of {len(criteria)} criteria met"
        result = f"{self['chosen']}, {met}" if self["chosen"] else "no edit was better than none"
        return f"ReportCard({questions} held-out questions: {result})"

    def report(self) -> Report:
        """The chosen edit and what is asked of it, the picture, and every way of answering."""
        from circuits.studies.bias.plot import draw
        from circuits.studies.bias.report_text import conditions_table

        knows = self["knows"]
        rows = {
            "chosen edit": str(self["plan"] or "none: nothing was better than doing nothing"),
            "right without the letters' prior": f"{knows['accuracy without prior']['value']:.1%}"
            f" of the questions; chance is {knows['chance']:.1%}",
        }
        for criterion in self["criteria"]:
            met = "met" if criterion["met"] else "missed"
            rows[criterion["criterion"]] = f"{criterion['measured']:+.3f}, {met}"
        picture = Picture(lambda: draw(self), "accuracy and share of A, by way of answering")
        return Report.of(Rows(rows), picture, conditions_table(self))

    def _repr_html_(self) -> str:
        return self.report().html()
