"""How far each method can be trusted: what it assumes, and what it was checked against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

NOTICE = (
    "Relevance propagation (the method `relevance`) may be covered by patents for commercial use: "
    "the authors of LXT, an implementation by others, state that layer-wise relevance propagation "
    "is patented, and grant no patent licence. This project grants none either; `secant`, the "
    "default, does not use it."
)


@dataclass(frozen=True, slots=True)
class Trust:
    """What a method assumes, and what the tests hold it against."""

    assumes: str
    checked: str


TRUST = {
    "activation": Trust(
        "nothing: it is the definition; but parts are replaced one at a time, and parts that act "
        "together, or stand in for one another, are not seen together",
        "runs patched one by one, hand-built models whose circuit is known",
    ),
    "attribution": Trust(
        "the metric is a straight line over the whole difference between the runs; it fails where "
        "attention is saturated (`qk_fix` answers queries and keys by the exact softmax)",
        "exact effects on linear models, where it is exact; small steps on others",
    ),
    "ig": Trust(
        "gradients on the line between the two embeddings stand for those between the two "
        "activations; a few steps see every bend",
        "exact effects on linear models; its own limit with more steps",
    ),
    "relevance": Trust(
        "norms, gates and (by rule) attention patterns stand still while activations change",
        "each rule's explicit Jacobian, conservation, models with these parts frozen, where it is "
        "exact",
    ),
    "secant": Trust(
        "the average slope between the two runs is the slope that a single patch meets",
        "sums over any cut of the model, which equal the total effect; exact effects on linear "
        "models; gradients where the runs differ by little",
    ),
    "ensemble": Trust(
        "the errors of `secant` and `attribution` differ in sign",
        "the mean of its two parts; exact effects on linear models",
    ),
}


def trust_table() -> Iterator[str]:
    """The lines of a Markdown table with one row per method."""
    yield "| how far to trust it | assumes | checked against |"
    yield "| --- | --- | --- |"
    for name, row in TRUST.items():
        yield f"| *{name}* | {row.assumes} | {row.checked} |"
