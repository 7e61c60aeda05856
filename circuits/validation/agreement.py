"""How far each method can be trusted: what it assumes, what it was checked against, how it agreed.

The agreement with exact patching was measured on the embedded model by ``make agreement``, which
writes ``agreement.json`` beside this file (:mod:`circuits.validation.agreement_measure`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any

from patching.methods import EFFECTS, METHODS

NOTICE = (
    "Relevance propagation (the method `relevance`) may be covered by patents for commercial use: "
    "the authors of LXT, an implementation by others, state that layer-wise relevance propagation "
    "is patented, and grant no patent licence. This project grants none either; `secant`, the "
    "default, does not use it."
)


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a method assumes, and what the tests compare it with."""

    assumes: str
    checked: str


GROUNDS = {
    "auto": Grounds(
        "of single sites what the method assumes that it takes; a sample of what it estimates is "
        "done exactly with every run, and the result says where the estimate misses",
        "the exact effects and the estimate, each by definition; its cost, counted",
    ),
    "activation": Grounds(
        "nothing: it is the definition; but parts are replaced one at a time, and parts that act "
        "together, or stand in for one another, are not seen together",
        "runs patched one by one, hand-built models whose circuit is known",
    ),
    "attribution": Grounds(
        "the metric is a straight line over the whole difference between the runs; it fails where "
        "attention is saturated (`qk_fix` answers queries and keys by the exact softmax)",
        "exact effects on linear models, where it is exact; small steps on others",
    ),
    "ig": Grounds(
        "gradients on the line between the two embeddings stand for those between the two "
        "activations; a few steps see every bend",
        "exact effects on linear models; its own limit with more steps",
    ),
    "relevance": Grounds(
        "norms, gates and (by rule) attention patterns stand still while activations change",
        "each rule's explicit Jacobian, conservation, models with these parts frozen, where it is "
        "exact",
    ),
    "secant": Grounds(
        "the average slope between the two runs is the slope that a single patch meets",
        "sums over any cut of the model, which equal the total effect; exact effects on linear "
        "models; gradients where the runs differ by little",
    ),
    "ensemble": Grounds(
        "the errors of `secant` and `attribution` differ in sign; half way to a patched query or "
        "key, the metric has the slope that the whole patch meets",
        "the mean of its two parts, and the gradients half way, each by definition; exact effects "
        "on linear models",
    ),
    "learned": Grounds(
        "the pairs it is trained on stand for others; it ranks parts by whole circuits, and says "
        "nothing of what one does alone",
        "autograd and differences for every slope, hand-built and trained models whose circuit is "
        "known, held-out pairs",
    ),
}


LEVELS = ("node", "edge")


@cache
def measured() -> Mapping[str, Any]:
    """The content of ``agreement.json``: model, number of pairs, and every agreement measured."""
    text = (files("circuits.validation") / "agreement.json").read_text(encoding="utf-8")
    content: Mapping[str, Any] = json.loads(text)
    return content


def agreement(method: str) -> str:
    """Correlation of a method's scores with exact effects, of nodes and of edges, by task.

    Means over noising and denoising, such as ``ioi .998 / .996; mental_math .829 / .691``.
    """
    if method == "activation":
        return "exact by definition"
    if method not in EFFECTS:
        return "not an effect: see its curves"
    if METHODS[method].tier != "estimate":
        return "that of what it takes: exact for all nodes here, as secant for edges"
    content = measured()
    return "; ".join(
        f"{task} {' / '.join(_decimal(pearson(method, task, level)) for level in LEVELS)}"
        for task in content["tasks"]
    )


def pearson(method: str, task: str, level: str) -> float | None:
    """Pearson correlation with the exact effect, mean over noising and denoising.

    None where one of them is undefined, because a method or the exact effect does not vary.
    """
    wanted = {"method": method, "task": task, "level": level}
    rows = [row for row in measured()["rows"] if wanted.items() <= row.items()]
    values = [row["pearson"]["value"] for row in rows]
    return None if None in values else fmean(values)


def measured_on() -> str:
    """What the agreement was measured on, in words."""
    content = measured()
    return (
        f"Pearson correlation with the exact effect of all nodes / of all edges on "
        f"`{content['model']}`, {content['n']} prompt pairs of each task, mean over noising and "
        f"denoising"
    )


def agreement_table() -> Iterator[str]:
    """The lines of a Markdown table with one row per method."""
    yield "| how far to trust it | assumes | checked against | measured agreement, nodes / edges |"
    yield "| --- | --- | --- | --- |"
    for name, row in GROUNDS.items():
        yield f"| *{name}* | {row.assumes} | {row.checked} | {agreement(name)} |"


def _decimal(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}".replace("0.", ".", 1)
