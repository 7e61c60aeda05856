"""How much work a validation is, and how long it takes, before it is begun.

The unit is one forward pass of the whole model over all prompt pairs. An exact effect goes on from
the layer and the first token that it changes, so it is a part of one; an estimate is a few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from patching.choice import ESTIMATE
from patching.costs import BACKWARD, exact_blocks, first_token
from patching.nodes.layout import layout_of
from patching.written import read_method
from tasks.errors import counted

if TYPE_CHECKING:
    from patching.anatomy import Anatomy
    from patching.model import Model
    from patching.runs import Batch
    from patching.sitesets import SiteSet
    from patching.sweep import Sweep
    from tasks import PromptPairs

STREAMS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
LONG = 20 * 60
FEWEST = 4
MOST, LEAST = 32, 8
"""Prompt pairs that are compared where no number is given: at most, and at least."""

AFFORDABLE = 4e13
"""Forward passes times tokens times weights that are done without being asked to: some twenty
minutes of two slow cores."""


@dataclass(frozen=True)
class Forecast:
    """What a validation will do.

    exact      forward passes of the exact effects, by kind of site
    estimates  forward passes of the estimates, by group of kinds that share them, then by method;
               of one direction, as ``exact``
    sites      how many sites of each kind are compared, and how many there are
    pass_      seconds of one forward pass over all prompt pairs
    """

    exact: Mapping[str, float]
    estimates: Mapping[tuple[str, ...], Mapping[str, float]]
    sites: Mapping[str, tuple[int, int]]
    directions: int
    pass_seconds: float

    @property
    def passes(self) -> float:
        """All of it, in forward passes."""
        each = sum(sum(costs.values()) for costs in self.estimates.values())
        return self.directions * (sum(self.exact.values()) + each)

    @property
    def seconds(self) -> float:
        """About how long it takes."""
        return self.passes * self.pass_seconds

    def lines(self, n: int) -> list[str]:
        """What is said of it before it begins; where it is long, which smaller setting is not."""
        some = [
            f"{used} of {every} sites of kind {kind}"
            for kind, (used, every) in self.sites.items()
            if used < every
        ]
        sample = f"; a sample: {', '.join(some)}" if some else ""
        lines = [f"This takes {in_words(self.seconds)}{sample}."]
        if self.seconds <= LONG:
            return lines
        fewer = max(FEWEST, int(n * LONG / self.seconds))
        longest = max(self.estimates_by_method().items(), key=lambda each: each[1])
        exact = self.directions * sum(self.exact.values()) * self.pass_seconds
        return [
            *lines,
            f"--n {fewer} takes {in_words(self.seconds * fewer / n)}. The exact effects are "
            f"{in_words(exact)} of it (--sites, --kind), the slowest estimate, {longest[0]}, "
            f"{in_words(self.directions * longest[1] * self.pass_seconds)} (--method).",
        ]

    def estimates_by_method(self) -> dict[str, float]:
        """Forward passes of every estimate, over all groups of kinds, in one direction."""
        passes: dict[str, float] = {}
        for costs in self.estimates.values():
            for method, cost in costs.items():
                passes[method] = passes.get(method, 0.0) + cost
        return passes


def in_words(seconds: float) -> str:
    """About how long, in words."""
    if seconds < 90:
        return f"about {counted(max(1, round(seconds)), 'second')}"
    return f"about {counted(round(seconds / 60), 'minute')}"


def groups_of(kinds: Sequence[str]) -> list[tuple[str, ...]]:
    """Kinds estimated in one go: those of the stream, those of heads, each other one alone."""
    alone = [kind for kind in kinds if kind in ("edge", "node", "neuron")]
    streams = tuple(kind for kind in kinds if kind in STREAMS)
    heads = tuple(kind for kind in kinds if kind not in (*STREAMS, *alone))
    return [group for group in (streams, heads, *((kind,) for kind in alone)) if group]


def positions_of(kind: str, pairs: PromptPairs) -> str:
    """Where sites of a kind are compared by default."""
    if kind not in STREAMS:
        return "all"
    if len(np.unique(pairs.mask.sum(1))) == 1:
        return "token"
    return "named" if pairs.positions else "all"


def exact_passes(sites: SiteSet, pairs: PromptPairs, anatomy: Anatomy) -> float:
    """Forward passes of the exact effects of some sites, in one direction."""
    return exact_blocks(sites, pairs, anatomy) / anatomy.n_layers + 2


def exact_edge_passes(pairs: PromptPairs, anatomy: Anatomy) -> float:
    """The same of all edges."""
    width, first = pairs.clean.shape[1], first_token(pairs)
    layout, layers = layout_of(anatomy), anatomy.n_layers
    *inner, logits = layout.ports
    passes = sum(group.count * group.reads * (1 - group.layer / layers) for group in inner)
    return passes * (width - first) / width + logits.reads / layers


def estimate_passes(
    method: str, options: Mapping[str, Any], kinds: Sequence[str], anatomy: Anatomy
) -> float:
    """Forward passes of an estimate of some kinds, in one direction."""
    once = 1 + BACKWARD
    answered = sum(kind in ("q", "k") for kind in kinds)
    if method in ("auto", "ig"):
        options = read_method(ESTIMATE)[1] if method == "auto" else options
        points = anatomy.n_layers * len(kinds) / 2 if options.get("on") == "activations" else 1
        cost = 2 + once * options.get("steps", 5) * points
    elif method == "ensemble":
        # Every layer's queries and keys, in two turns, from that layer on.
        cost = 2 + 3 * once + answered * anatomy.n_layers * once
    else:
        cost = 2 + once * {"secant": 2.0, "relevance": 1.5}.get(method, 1.0)
    if options.get("grad_drop"):
        cost += anatomy.n_layers * once
    return cost + (answered if options.get("qk_fix") else 0)


def affordable(work: Forecast, model: Model, pairs: PromptPairs) -> int:
    """How many of the pairs to compare where nobody says: half of them, and again, until it is
    affordable. It depends on the model and the prompts, not on the machine.
    """
    weights = sum(weight.numel() for weight in model.hf.parameters())
    n, each = len(pairs), work.passes * int(pairs.mask.sum()) / len(pairs) * weights
    while n // 2 >= LEAST and n * each > AFFORDABLE:
        n //= 2
    return n


def seconds_of_a_pass(model: Model, pairs: PromptPairs, options: Sweep) -> float:
    """How long a forward pass over all pairs takes, by that of the first batch."""
    from patching.sweep import sweep

    def timed(batch: Batch) -> float:
        times = []
        for _ in range(2):
            begin = perf_counter()
            model.run(batch.clean, batch.mask)
            times.append(perf_counter() - begin)
        return min(times) / len(batch)

    return next(sweep(model, pairs, timed, options.afresh(journal=None))) * len(pairs)


def forecast(
    model: Model,
    pairs: PromptPairs,
    methods: Mapping[str, tuple[str, Mapping[str, Any]]],
    kinds: Sequence[str],
    directions: int,
    sites: Mapping[str, tuple[SiteSet, SiteSet]],
    options: Sweep,
) -> Forecast:
    """How much work it is; ``sites`` are those compared of each kind, and all there are."""
    anatomy = model.anatomy
    exact = {kind: exact_passes(some, pairs, anatomy) for kind, (some, _) in sites.items()}
    if "edge" in kinds:
        exact["edge"] = exact_edge_passes(pairs, anatomy)
    estimates = {
        group: {
            text: estimate_passes(name, options, group, anatomy)
            for text, (name, options) in methods.items()
        }
        for group in groups_of(kinds)
    }
    counts = {kind: (len(some), len(every)) for kind, (some, every) in sites.items()}
    seconds = seconds_of_a_pass(model, pairs, options)
    return Forecast(exact, estimates, counts, directions, seconds)
