"""Scores as a heat map: layers by heads, parts by positions, or layers by layers for edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from patching.sites import HEAD_PARTS, Site, parse_edge, parse_site
from tasks.errors import MethodError

if TYPE_CHECKING:
    import pandas as pd

    from patching.scores import Scores

POSITIVE, NEGATIVE = (0, 114, 178), (213, 94, 0)
MOST_COLUMNS = 200


@dataclass(frozen=True)
class HeatMap:
    """A table of numbers that draws itself; NaN is an empty cell.

    Blue pushes towards the clean answer, orange against it; every cell also says its number.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Float[np.ndarray, "rows columns"]

    def to_frame(self) -> pd.DataFrame:
        """The same as a data frame."""
        import pandas as pd

        return pd.DataFrame(self.values, index=list(self.rows), columns=list(self.columns))

    def _repr_html_(self) -> str:
        largest = float(np.nanmax(np.abs(self.values), initial=0.0)) or 1.0
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        lines = [
            f"<tr><th>{escape(name)}</th>{''.join(_cell(v, largest) for v in row)}</tr>"
            for name, row in zip(self.rows, self.values.tolist(), strict=True)
        ]
        return (
            f"<table><caption>{escape(self.title)}</caption>"
            f"<tr><th></th>{head}</tr>{''.join(lines)}</table>"
        )


def heat_map(scores: Scores, labels: Mapping[int | str, str] | None = None) -> HeatMap:
    """The mean scores as a table; ``labels`` says what positions are called, such as tokens.

    Nodes and sites stand by layer and unit, or, where they have positions, by part and position.
    Of edges, which are too many, sums of ``|score|`` stand by the layers of sender and receiver.

    Raises:
        MethodError: a table of more than 200 columns.
    """
    what = f"{scores.method}, {scores.direction}, {scores.metric}"
    cells: dict[tuple[str, str], float] = {}
    if scores.level in ("edge", "attention_edge"):
        what = f"sum of |score| by layers of sender (rows) and receiver: {what}"
        for name, value in zip(scores.names, scores.values.tolist(), strict=True):
            edge = parse_edge(name, scores.anatomy)
            key = _layer(edge.sender), _layer(edge.receiver)
            cells[key] = cells.get(key, 0.0) + abs(value)
    else:
        for name, value in zip(scores.names, scores.values.tolist(), strict=True):
            cells[_place(parse_site(name, scores.anatomy), labels or {})] = value
    rows, columns = (tuple(dict.fromkeys(key[axis] for key in cells)) for axis in (0, 1))
    if len(columns) > MOST_COLUMNS:
        raise MethodError(f"a heat map of {len(columns)} columns cannot be read; use to_frame()")
    table = np.full((len(rows), len(columns)), np.nan)
    for (row, column), value in cells.items():
        table[rows.index(row), columns.index(column)] = value
    return HeatMap(what, rows, columns, table)


def summary(scores: Scores, most: int = 10) -> str:
    """The strongest scores as an HTML table."""
    rows = "".join(
        f"<tr><td style='text-align:left'>{escape(name)}</td><td>{scores[name]:+.4f}</td></tr>"
        for name in scores.ranked()[:most]
    )
    table = f"<table><caption>{escape(repr(scores))}, strongest</caption>{rows}</table>"
    if scores.chosen is not None:
        table += f"<p>{escape(str(scores.chosen))}</p>"
    if not scores.anatomy.n_experts:
        return table
    return (
        f"{table}<p>The two runs may choose different experts: circuits.routing(model, pairs) says "
        f"how often, and the list of methods what each makes of it.</p>"
    )


def _layer(site: Site) -> str:
    return site.kind if site.kind in ("input", "logits") else f"layer {site.layer}"


def _place(site: Site, labels: Mapping[int | str, str]) -> tuple[str, str]:
    if site.position is not None:
        column = str(site.position)
        if site.position in labels:
            column = f"{column} {labels[site.position]}"
        return site.at(None).name, column
    if site.kind in ("input", "logits"):
        return site.kind, "all"
    if site.kind == "mlp":
        return _layer(site), "MLP"
    if site.unit < 0:
        return _layer(site), site.kind
    letter = {"neuron": "n", "expert": "e"}.get(site.kind, "h")
    part = f".{site.kind}" if site.kind in HEAD_PARTS else ""
    return _layer(site), f"{letter}{site.unit}{part}"


def _cell(value: float, largest: float) -> str:
    if value != value:
        return "<td></td>"
    red, green, blue = POSITIVE if value >= 0 else NEGATIVE
    share = abs(value) / largest
    style = f"background:rgba({red},{green},{blue},{0.75 * share:.2f})"
    return f'<td style="{style}">{value:+.2f}</td>'
