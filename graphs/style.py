"""How pictures look: colours, widths, shapes and text, the same for every format.

Blue and orange (vermilion) are distinguished by people with any of the common kinds of colour
blindness; a negative score is dashed besides.
"""

from __future__ import annotations

import re
import unicodedata
from html import escape

from graphs.info import CircuitInfo, Metrics

POSITIVE, NEGATIVE = "#0072b2", "#d55e00"
INK, PALE_INK, BAND, PAPER = "#1f2933", "#66717d", "#f2f4f6", "#ffffff"
DARK, GREY, TINT = "#3b4754", "#d9dee3", "#f7f8f9"
FONT = "Helvetica,Arial,sans-serif"
THINNEST, THICKEST = 0.7, 5.0
DASHES = (5, 3)
"""Of a line for a negative score: drawn and left out, in points."""

# What no XML document may hold, and control characters, which no picture should.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def relative(score: float, largest: float) -> float:
    """``|score|`` as a share of the largest one, between 0 and 1; safe for any finite numbers."""
    return min(abs(score) / largest, 1.0) if largest > 0 else 0.0


def pen_width(share: float) -> float:
    """Line width in points for a strength between 0 and 1."""
    return round(THINNEST + (THICKEST - THINNEST) * share, 2)


def colour(sign: float, share: float = 1.0) -> str:
    """Blue for a positive sign, orange for a negative one, grey for 0; paler where weak."""
    base = POSITIVE if sign > 0 else NEGATIVE if sign < 0 else PALE_INK
    return blend(base, 0.5 * (1 - share**0.5))


def dashes(sign: float) -> str:
    """The second cue for the sign: a negative one is dashed."""
    return "dashed" if sign < 0 else "solid"


def blend(base: str, white: float) -> str:
    """A colour ``#rrggbb`` mixed with the given share of white."""
    parts = [int(base[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * white):02x}" for part in parts)


def clean(text: str, longest: int = 200) -> str:
    """Text that can be shown: control characters replaced, cut with an ellipsis if too long."""
    shown = _UNPRINTABLE.sub("\ufffd", text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "\u2026"


def markup(text: str) -> str:
    """Text escaped for XML, HTML and Graphviz' HTML-like labels."""
    return escape(clean(text), quote=True)


def quoted(text: str) -> str:
    """Text as a quoted DOT string that is shown as it is.

    Graphviz reads entities and backslash escapes in labels, so both are escaped.
    """
    inner = clean(text).replace("\\", "\\\\").replace("&", "&amp;").replace('"', '\\"')
    return f'"{inner}"'


def text_width(text: str, size: float = 10.0) -> float:
    """Room for text in points, generous enough for any common sans-serif font."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return (len(text) + wide) * size * 0.64 + 0.5 * size


def number(value: float) -> str:
    """Three significant digits, with a real minus sign."""
    return f"{value:.3g}".replace("-", "\u2212")


def meaning(info: CircuitInfo) -> tuple[str, str]:
    """What a positive and a negative score say."""
    if info.of_pairs:
        return "pushes towards the clean answer", "pushes away from it"
    return "raises the metric", "lowers it"


def caption(info: CircuitInfo, drawn: str = "") -> list[str]:
    """What a picture says about the circuit: first the title, then a line for each part."""
    title = " on ".join(filter(None, (info.task, info.model))) or "circuit"
    how = ", ".join(filter(None, (info.method, info.direction if info.of_pairs else "")))
    metric = f"metric {info.metric}" if info.metric else ""
    plural = "" if info.prompts == 1 else "s"
    asked = "prompt pair" if info.of_pairs else "prompt"
    prompts = f"{info.prompts:,} {asked}{plural}" if info.prompts else ""
    lines = [title, "; ".join(filter(None, (how, metric, prompts)))]
    lines.append("; ".join(filter(None, (info.selection.describe(info.level), drawn))))
    lines.append(_faithfulness(info.metrics))
    return [clean(line) for line in lines if line]


def _faithfulness(metrics: Metrics) -> str:
    """What was measured of the circuit; nothing where nothing was."""
    if metrics.circuit is None:
        return ""
    share = "undefined" if metrics.faithfulness is None else number(metrics.faithfulness)
    known = {"clean": metrics.full, "ablated": metrics.empty, "circuit": metrics.circuit}
    values = ", ".join(f"{k} {number(v)}" for k, v in known.items() if v is not None)
    outside = f", outside: {metrics.ablation}" if metrics.ablation else ""
    return f"faithfulness {share} ({values}{outside})"
