"""Prompt pairs as a table: for data frames and for notebooks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from tasks.pairs import PromptPairs

SHOWN = 5
LEFT = " style='text-align:left'"


def pairs_frame(pairs: PromptPairs) -> pd.DataFrame:
    """One row per pair. A prompt without a text is shown as its token ids, padding left out."""
    clean, corrupted = zip(*pairs.texts, strict=True)
    columns = {
        "clean": _prompts(pairs, clean, "clean"),
        "corrupted": _prompts(pairs, corrupted, "corrupted"),
        "answer": _ids(pairs, "answer"),
        "counterfactual": _ids(pairs, "counterfactual"),
    }
    return pd.DataFrame(columns, index=pd.RangeIndex(len(pairs), name="pair"))


def pairs_html(pairs: PromptPairs) -> str:
    """The first pairs, escaped; each prompt below the other one, so that they can be compared."""
    frame = pairs_frame(pairs[:SHOWN])
    lines = [
        f"<tr><th>{i}</th><td{LEFT}><code>{escape(str(row.clean))}</code><br>"
        f"<code>{escape(str(row.corrupted))}</code></td>"
        f"<td>{escape(str(row.answer))}<br>{escape(str(row.counterfactual))}</td></tr>"
        for i, row in enumerate(frame.itertuples())
    ]
    rest = len(pairs) - len(frame)
    more = f"<p>and {rest} more</p>" if rest else ""
    head = f"<tr><th></th><th{LEFT}>clean, corrupted</th><th>answer ids</th></tr>"
    caption = f"<caption style='text-align:left;white-space:nowrap'>{escape(repr(pairs))}</caption>"
    notes = "".join(f"<p>{escape(note)}</p>" for note in pairs.notes)
    return f"<table>{caption}{head}{''.join(lines)}</table>{more}{notes}"


def _prompts(pairs: PromptPairs, texts: tuple[str, ...], name: str) -> list[str]:
    rows = zip(texts, getattr(pairs, name), pairs.mask, strict=True)
    return [text or str(ids[mask].tolist()) for text, ids, mask in rows]


def _ids(pairs: PromptPairs, name: str) -> list[tuple[int, ...]]:
    return [tuple(i for i in row if i >= 0) for row in getattr(pairs, name).tolist()]
