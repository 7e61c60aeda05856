"""How estimates of single sites agree with exact patching on real language models.

``python -P tests/bench_agreement.py PAGE MODEL ...`` writes the page. Indirect objects, 8 pairs,
both directions, a stated sample of each kind of site.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import circuits
from circuits.models import name_of
from circuits.validation.validation import Validation, validate

PAIRS, SITES, SEED = 8, 48, 0
METHODS = ("ensemble", "secant", "attribution", "ig")
KINDS = ("resid_pre", "attn_out", "mlp_out", "z", "q", "k", "v")
HEAD = f"""# How estimates agree with exact patching on real models

Made by `make agreement-real`. The question is what a single site does alone: the exact effect of
patching it, against estimates from gradients. Task `ioi`, {PAIRS} prompt pairs (seed {SEED}), both
directions, at most {SITES} sites of each kind, drawn with the same seed. Numbers are means over
both directions. With so few pairs an interval is wide: the last column is the median width of the
95 % intervals.
"""


def main(page: str, models: list[str]) -> None:
    """Measure every model and write the page."""
    parts = [HEAD]
    for model in models:
        opened = circuits.load_model(model)
        pairs = circuits.load_task("ioi").pairs(
            opened.tokenizer, n=PAIRS, seed=SEED, **({} if model == "nano" else {"split": "all"})
        )
        found = validate(opened, pairs, METHODS, KINDS, sites=SITES, batch_size=8, seed=SEED)
        parts.append(section(model, found))
        Path(page).write_text("\n".join(parts), encoding="utf-8")


def section(model: str, found: Validation) -> str:
    """One model's tables: Pearson, and the share of the largest effects with the right sign."""
    used = ", ".join(f"{s.compared} of {s.all} {kind}" for kind, s in found.sites.items())
    lines = [
        f"\n## {name_of(model)}\n",
        f"Mean effect of the whole difference {found.total_effect:+.2f} logits. Sites: {used}.",
    ]
    for measure, title in (("pearson", "Pearson"), ("signs", "Right sign")):
        lines += ["", *table(found, measure, title)]
    return "\n".join(lines) + "\n"


def table(found: Validation, measure: str, title: str) -> list[str]:
    """Rows of a Markdown table."""
    rows = [
        f"| {title} with exact | {' | '.join(KINDS)} | mean | interval |",
        "|" + " --- |" * (len(KINDS) + 3),
    ]
    for method in METHODS:
        mine = [c for c in found.comparisons if c.method == method]
        cells = [mean(c.measures[measure].value for c in mine if c.kind == k) for k in KINDS]
        widths = sorted(c.measures[measure].high - c.measures[measure].low for c in mine)
        shown = " | ".join(f"{cell:.3f}" for cell in [*cells, mean(cells)])
        rows.append(f"| {method} | {shown} | {widths[len(widths) // 2]:.2f} |")
    return rows


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
