"""Circuits on groups of the same held-out prompts: by template, by length, by a file's column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits.evaluation.outcomes import Outcomes
from circuits.results.intervals import Ends, percent
from circuits.results.tables import Table

if TYPE_CHECKING:
    from tasks import PromptPairs

SHOWN = 40
"""Characters of a group's name in a table."""


@dataclass(frozen=True)
class Part:
    """The prompts of one group: their value of the column, and what every circuit makes of them."""

    value: str
    outcomes: Outcomes

    def share(self, circuit: int) -> tuple[float, Ends | None] | None:
        """A circuit's faithfulness here and its interval; None where it is undefined."""
        if not self.outcomes.defined:
            return None
        return float(self.outcomes.faithfulness[circuit]), self.outcomes.interval(circuit)


@dataclass(frozen=True)
class Breakdown:
    """Faithfulness of every circuit on every group of prompts."""

    by: str
    names: tuple[str, ...]
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, by: str, names: Sequence[str], pairs: PromptPairs, outcomes: Outcomes) -> Breakdown:
        """The prompts grouped by a column.

        Raises:
            TaskError: they have no such column.
        """
        values = np.array(pairs.column(by))
        kinds = list(dict.fromkeys(values.tolist()))
        parts = [Part(v, outcomes.prompts(np.flatnonzero(values == v))) for v in kinds]
        return cls(by, tuple(names), tuple(parts))

    def table(self) -> Table:
        """A row per group: how many prompts, and the faithfulness of every circuit in percent."""
        rows = []
        for part in self.parts:
            shares = [part.share(i) for i in range(len(self.names))]
            cells = ["undefined" if each is None else percent(*each) for each in shares]
            rows.append([_short(part.value), str(part.outcomes.n), *cells])
        return Table([f"faithfulness (%) by {self.by}", "prompts", *self.names], rows)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {"by": self.by, "parts": [self._part(part) for part in self.parts]}

    def _part(self, part: Part) -> dict[str, Any]:
        shares = [part.share(i) for i in range(len(self.names))]
        return {
            "value": part.value,
            "prompts": part.outcomes.n,
            "faithfulness": [each and each[0] for each in shares],
            "intervals": [each and each[1] for each in shares],
        }


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}\u2026"
