"""What every command's results are made of: intervals, tables, pictures, reports, records."""

from typing import TYPE_CHECKING

from circuits.lazy import lazily

if TYPE_CHECKING:
    from circuits.results.intervals import Estimate
    from circuits.results.report import Report
    from circuits.results.tables import Table

_HOMES = {
    "Estimate": ("circuits.results.intervals", "Estimate"),
    "Report": ("circuits.results.report", "Report"),
    "Table": ("circuits.results.tables", "Table"),
}

__all__ = [
    "Estimate",
    "Report",
    "Table",
]

__getattr__ = lazily(__name__, _HOMES)
