"""Selectors of circuits: what each keeps, costs and accepts. This table is free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from patching.methods import Option, fill
from tasks.errors import MethodError, unknown

TOP = 100
ABSOLUTE = Option(bool, True, "rank by |score|; false: by signed score, the most helpful first")


@dataclass(frozen=True, slots=True)
class Selector:
    """How a circuit is selected from scores.

    levels    what it can choose among: edges, nodes
    top       how many are kept where no number is given; None: all that pass
    limited   whether a number of edges to keep can be given at all
    """

    name: str
    claim: str
    cost: str
    reference: str
    levels: tuple[str, ...] = ("edge",)
    top: int | None = TOP
    limited: bool = True
    options: Mapping[str, Option] = field(default_factory=dict)

    def check(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with defaults filled in.

        Raises:
            MethodError: an unknown option, or a value that it cannot have.
        """
        filled = fill(f"the selector '{self.name}'", self.name, self.options, options)
        wrong = [
            f"{name} is {filled[name]}; {meant}"
            for name, meant in BOUNDS.items()
            if name in filled and not _within(name, filled[name])
        ]
        if wrong:
            raise MethodError(
                f"the selector '{self.name}' cannot run like this: {'; '.join(wrong)}"
            )
        return filled


BOUNDS = {
    "least": "give a number of at least 0",
    "start": "give a number of edges of at least 0",
    "keep": "give a share between 0 and 1",
    "steps": "give a number of at least 0",
    "times": "give a number of at least 100",
}


def _within(name: str, value: float) -> bool:
    if name == "keep":
        return 0 < value < 1
    return value >= (100 if name == "times" else 0)


SELECTORS: dict[str, Selector] = {
    selector.name: selector
    for selector in (
        Selector(
            "top",
            "the strongest that connect input to logits: a number, or as many as give --faithful",
            "nothing",
            "Syed et al. 2023",
            levels=("edge", "node"),
            options={
                "absolute": ABSOLUTE,
                "fill": Option(bool, True, "take more until that many are connected"),
            },
        ),
        Selector(
            "threshold",
            "all that score at least so much, without those that connect nothing",
            "nothing",
            "Syed et al. 2023",
            levels=("edge", "node"),
            top=None,
            limited=False,
            options={
                "least": Option(float, 0.05, "the lowest score kept, in units of the metric"),
                "absolute": ABSOLUTE,
            },
        ),
        Selector(
            "greedy",
            "the strongest edge into a node reached so far, again and again, from the logits back",
            "nothing",
            "Hanna et al. 2024",
            options={"absolute": ABSOLUTE},
        ),
        Selector(
            "acdc",
            "what is left when every edge goes that the circuit's metric hardly needs, one by one",
            "one run of the circuit per edge",
            "Conmy et al. 2023",
            top=None,
            limited=False,
            options={
                "least": Option(float, 0.05, "what an edge must move, in units of the metric"),
                "start": Option(int, 0, "begin with so many of the strongest edges; 0: with all"),
            },
        ),
        Selector(
            "iterated",
            "the strongest share, scored again inside the circuit they make, until few are left",
            "per round, as many forward and backward passes of the circuit as steps",
            "this project; integrated gradients over edge masks: Sundararajan et al. 2017",
            options={
                "keep": Option(float, 0.7, "the share of edges that each round keeps"),
                "steps": Option(int, 5, "midpoints at which gradients are taken in each round"),
                "absolute": ABSOLUTE,
            },
        ),
        Selector(
            "bootstrap",
            "those whose 95 % interval over prompts excludes zero, without what connects nothing",
            "nothing; memory for every prompt's own scores",
            "arXiv 2510.25786 (BlackboxNLP 2025 shared task)",
            levels=("edge", "node"),
            top=None,
            options={
                "interval": Option(
                    str,
                    "resampled",
                    "resampled prompts, or normal: 1.96 standard errors",
                    ("resampled", "normal"),
                ),
                "times": Option(int, 2000, "how often prompts are resampled"),
                "absolute": ABSOLUTE,
            },
        ),
    )
}


def get(name: str) -> Selector:
    """A selector by name.

    Raises:
        MethodError: no selector has that name.
    """
    if name not in SELECTORS:
        raise MethodError(unknown("selector", name, SELECTORS))
    return SELECTORS[name]
