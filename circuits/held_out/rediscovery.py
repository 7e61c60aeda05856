"""What another draw of the discovery's prompts would have given.

Intervals over held-out prompts leave out that the circuit itself was found on a draw of prompts.
Here the discovery is repeated on bootstrap resamples of its prompts: the scores of every prompt
are known, so scores cost nothing more; a choice that runs the model runs it again. Every circuit
found so is tested on the same held-out prompts. A resample holds about 63 % of the prompts, some
of them several times, so circuits come out a little worse than from as many fresh prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from circuits.discover import find, measure
from circuits.evaluate import edges_of
from circuits.evaluation.areas import KINDS, area
from circuits.evaluation.curves import BEST, plan, run_plans
from circuits.evaluation.outcomes import measure as run_circuits
from circuits.evaluation.running import PLAIN, Running
from circuits.results.intervals import COVERAGE, Ends, draw, percentiles, weights
from tasks.errors import RunError

if TYPE_CHECKING:
    from circuits.config import Config
    from graphs import CircuitGraph
    from patching.model import Model
    from patching.scores import Scores
    from tasks import PromptPairs

OFTEN = 0.5
"""Edges outside the circuit are told where at least this share of redrawn circuits has them."""

Values = Float[np.ndarray, "rediscoveries 1+held_out"]


@dataclass(frozen=True)
class Rediscovery:
    """Measures of the redrawn discoveries, on the held-out prompts and on resamples of them.

    faithfulness   of every redrawn circuit; the first column is on the held-out prompts as they are
    areas          the same of the areas under the curve of every redrawn ranking
    sizes          edges of every redrawn circuit
    stability      share of the redrawn circuits that hold an edge: of every edge of the circuit,
                   and of others that are in half of them
    """

    faithfulness: Values
    areas: Mapping[str, Values]
    sizes: tuple[int, ...]
    stability: Mapping[str, float]
    others: Mapping[str, float]

    @property
    def times(self) -> int:
        """How often the prompts of discovery were drawn again."""
        return len(self.sizes)

    @property
    def kept(self) -> float | None:
        """Mean share of the redrawn circuits that an edge of the circuit is in."""
        return float(np.mean(list(self.stability.values()))) if self.stability else None

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {
            "times": self.times,
            "faithfulness": spread(self.faithfulness),
            "areas": {kind: spread(values) for kind, values in self.areas.items()},
            "edges": list(self.sizes),
            "stability": dict(self.stability),
            "other_edges_in_half": dict(self.others),
        }

    def measures(self) -> dict[str, tuple[float, Ends | None]]:
        """Mean over rediscoveries of every measure, with its interval over both draws."""
        every = {"faithfulness": self.faithfulness, **self.areas}
        return {
            f"{name}, prompts redrawn": (float(values[:, 0].mean()), percentiles(values))
            for name, values in every.items()
        }

    def rows(self) -> dict[str, str]:
        """Label and value of a table."""
        sure = sum(share >= COVERAGE for share in self.stability.values())
        rows = {
            "prompts redrawn": f"{self.times} times: {spread_text(self.faithfulness, True)}",
            "CPR, CMD redrawn": ", ".join(spread_text(self.areas[kind]) for kind in ("cpr", "cmd")),
        }
        if self.kept is not None:
            rows["stable edges"] = (
                f"{sure} of {len(self.stability)} are found in at least {COVERAGE:.0%} of the "
                f"draws; an edge of the circuit in {self.kept:.1%} of them on average"
            )
        return rows


def spread(values: Values) -> dict[str, Any]:
    """Mean and standard deviation over rediscoveries, and the 95 % interval over both draws."""
    plain = values[:, 0]
    return {
        "mean": float(plain.mean()),
        "standard_deviation": float(plain.std(ddof=1)) if len(plain) > 1 else None,
        "interval_over_both_draws": percentiles(values),
    }


def spread_text(values: Values, percent: bool = False) -> str:
    """Mean, standard deviation and interval in words."""
    form = ".1%" if percent else ".3f"
    measured = spread(values)
    low, high = measured["interval_over_both_draws"]
    deviation = measured["standard_deviation"]
    plus = "" if deviation is None else f" +- {deviation:{form}}"
    return f"{measured['mean']:{form}}{plus} ({low:{form}} to {high:{form}})"


def rediscover(
    config: Config,
    model: Model,
    used: PromptPairs,
    pairs: PromptPairs,
    circuit: Collection[str],
    times: int,
    seed: int = 0,
    running: Running = PLAIN,
) -> Rediscovery:
    """Discover again on ``times`` resamples of ``used``, and test every circuit on ``pairs``.

    Raises:
        RunError: fewer than two rediscoveries, or a single prompt to draw from.
    """
    if times < 2 or used.prompts < 2:
        raise RunError(
            f"{times} rediscoveries of {used.prompts} prompts tell no spread; give at least 2 of "
            f"each"
        )
    options = running.afresh(config.batch_size)
    scored = measure(config, model, used, options, keep_rows=True)
    rng = np.random.default_rng(seed)
    scores, graphs = [], []
    for done in range(times):
        prompts = rng.integers(used.prompts, size=used.prompts)
        drawn = scored.drawn(prompts)
        scores.append(drawn.scores)
        graphs.append(
            find(config, drawn, model, used.drawn(prompts), options.afresh(progress=None))
        )
        if running.progress:
            running.progress(done + 1, times, "discovering again")
    outcomes = run_circuits(model, pairs, [edges_of(graph) for graph in graphs], running)
    n = outcomes.n
    prompts = np.vstack([np.full(n, 1 / n), weights(draw(n, seed))])
    stability, others = _stability(graphs, circuit)
    return Rediscovery(
        faithfulness=outcomes.weighted(prompts).T,
        areas=_areas(model, pairs, scores, prompts, running),
        sizes=tuple(len(edges_of(graph)) for graph in graphs),
        stability=stability,
        others=others,
    )


def _areas(
    model: Model,
    pairs: PromptPairs,
    scores: Sequence[Scores],
    prompts: Float[np.ndarray, "times n"],
    running: Running,
) -> dict[str, Values]:
    rankings = tuple(dict.fromkeys(BEST.values()))
    plans = [plan(each, ranking) for each in scores for ranking in rankings]
    curves = run_plans(model, pairs, plans, running)
    areas = {}
    for kind in KINDS:
        mine = curves[rankings.index(BEST[kind]) :: len(rankings)]
        areas[kind] = np.stack(
            [area(curve.sizes, curve.outcomes.weighted(prompts), kind) for curve in mine]
        )
    return areas


def _stability(
    graphs: Sequence[CircuitGraph], circuit: Collection[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Share of the circuits that hold each edge (or node): of one circuit, and of the others."""
    counts = Counter(name for graph in graphs for name in graph)
    mine = set(circuit)
    kept = {name: counts[name] / len(graphs) for name in circuit}
    rest = [(name, count / len(graphs)) for name, count in counts.most_common() if name not in mine]
    return kept, {name: share for name, share in rest if share >= OFTEN}
