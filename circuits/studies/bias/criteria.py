"""What is asked of the edit that a search has chosen, and whether it does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from circuits.studies.bias.conditions import NO_EDIT, RIVAL
from circuits.studies.bias.controls import DRAWS


def criteria(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry per bar: its text, the number measured on held-out questions, met or not."""
    chosen = card["chosen"]
    if chosen is None:
        return []
    conditions, others = card["conditions"], card["others"][chosen]

    def value(condition: str, name: str) -> float:
        found = conditions[condition][name]["value"]
        return float("nan") if found is None else float(found)

    share = value(chosen, "A share, gold not A")
    spread = 1 - value(chosen, "RStd") / max(value(NO_EDIT, "RStd"), 1e-12)
    rival = value(chosen, "accuracy") - value(RIVAL, "accuracy")
    found = [
        ("A share where gold is not A, below 0.30", share, share < 0.3),
        ("RStd falls by, at least 0.80", spread, spread >= 0.8),
        ("accuracy minus PriDe's, at least -0.02", rival, rival >= -0.02),
    ]
    for name in ("ioi", "mental_math"):
        if name in others:
            change = others[name]["change"]["value"]
            found.append((f"{name} accuracy changes by, at least -0.01", change, change >= -0.01))
    if "text" in others:
        change = others["text"]["change"]["value"]
        found.append(("perplexity of text changes by, at most 0.01", change, change <= 0.01))
    moved = float(np.abs(card["random"]).mean())
    found.append((f"{DRAWS} random edits move the A share by, at most 0.05", moved, moved <= 0.05))
    return [{"criterion": bar, "measured": number, "met": bool(met)} for bar, number, met in found]
