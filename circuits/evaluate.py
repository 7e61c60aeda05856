"""How much of the answer a circuit keeps when everything outside it is ablated."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from circuits.results.report import Report, Reported
from circuits.results.tables import Rows
from tasks.errors import counted

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from jaxtyping import Float

    from circuits.clock import Progress
    from graphs import CircuitGraph
    from patching.ablation.means import MeanActivations
    from patching.model import Model
    from patching.sweep import Sweep
    from tasks import PromptPairs


@dataclass(frozen=True, slots=True)
class Evaluation(Reported):
    """A circuit against the whole model and against none of it, in units of the metric.

    full       mean metric of the clean run
    empty      mean metric of an empty circuit: of the corrupted run, or of another ablation's
    circuit    mean metric when only the circuit's edges carry clean activations
    n          number of prompt pairs
    ablation   what stands in for everything outside the circuit
    interval   bootstrap interval of the faithfulness over prompts (95 %, percentiles); None of a
               single prompt pair, which has no spread
    trained    whether these are the prompts that the circuit's ranking was learned from

    `faithfulness` is `(circuit - empty) / (full - empty)`: 0 for an empty circuit, 1 for the whole
    model, outside [0, 1] for a circuit that overshoots. It is None, and so is `interval`, where
    full and empty are within 1.96 standard errors of each other, because then there is nothing to
    recover.

    >>> 0.9 < circuits.evaluate(graph, model, pairs).faithfulness < 1
    True
    """

    metric: str
    full: float
    empty: float
    circuit: float
    n: int
    per_prompt: tuple[float, ...]
    interval: tuple[float, float] | None
    faithfulness: float | None
    ablation: str = "corrupted"
    trained: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return asdict(self)

    def noted(self, graph: CircuitGraph) -> CircuitGraph:
        """The circuit with these metrics written into it."""
        from graphs import Metrics

        share, outside = self.faithfulness, self.ablation
        return graph.with_info(metrics=Metrics(self.full, self.empty, self.circuit, share, outside))

    def report(self) -> Report:
        """The metric of the three runs, and the faithfulness."""
        from circuits.results.intervals import verdict

        rows = {
            "prompt pairs": str(self.n),
            f"{self.metric}, clean": f"{self.full:+.4f}",
            f"{self.metric}, {empty_label(self.ablation)}": f"{self.empty:+.4f}",
            f"{self.metric}, circuit": f"{self.circuit:+.4f}",
            "faithfulness": verdict(self.faithfulness, self.interval),
        }
        if self.trained:
            rows["prompts"] = "those it was learned from: other prompts say less"
        return Report.of(Rows(rows))

    def to_frame(self) -> pd.DataFrame:
        """One row, so that evaluations can be put below each other."""
        import pandas as pd

        low, high = self.interval or (None, None)
        row = {name: getattr(self, name) for name in ("n", "full", "empty", "circuit")}
        row |= {"faithfulness": self.faithfulness, "low": low, "high": high}
        return pd.DataFrame([row], index=pd.Index([self.metric], name="metric"))

    def __repr__(self) -> str:
        share = "undefined" if self.faithfulness is None else f"{self.faithfulness:.3f}"
        size = counted(self.n, "prompt pair")
        return f"Evaluation({self.metric}, {size}: faithfulness {share})"


def evaluate(
    graph: CircuitGraph,
    model: Model,
    pairs: PromptPairs,
    *,
    metric: str | None = None,
    ablation: str = "corrupted",
    means: MeanActivations | None = None,
    batch_size: int | Sweep = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Run the circuit alone: clean activations on its edges, ablated ones on all others.

    A circuit of nodes keeps every edge between its nodes and the logits. `metric` defaults to the
    circuit's own. `ablation` is one of :data:`patching.ablation.kinds.OUTSIDE`; its means are
    those of the pairs' clean prompts unless `means` of another prompt set are given. `seed` draws
    the resamples of the bootstrap interval; `progress` is called with (done, total, what).

    >>> circuits.evaluate(graph, model, pairs)
    Evaluation(logit_diff, 16 prompt pairs: faithfulness 0.9...)

    Raises:
        CircuitsError: the circuit, the model or the pairs are something else.
        SiteError: the circuit is of a model of another shape.
        MethodError: an unknown ablation, or means that do not fit.
    """
    from circuits.arguments import check_kinds
    from circuits.evaluation.outcomes import measure
    from circuits.evaluation.running import Running
    from patching.ablation.kinds import outside
    from patching.scores import TRAINED_ON
    from patching.sweep import Sweep

    check_kinds(graph=graph, model=model, pairs=pairs)
    ablation = outside(ablation).name
    graph.info.check_model(model.anatomy.shape)
    metric = metric or graph.info.metric or pairs.metric
    options = Sweep.of(batch_size, progress)
    running = Running.over(options, metric=metric, ablation=ablation, means=means)
    runs = measure(model, pairs, [edges_of(graph)], running)
    evaluation = summarize(metric, runs.full, runs.empty, runs.circuits[0], seed, ablation)
    return replace(evaluation, trained=graph.info.options.get(TRAINED_ON) == pairs.digest)


def empty_label(ablation: str) -> str:
    """What tables call the run with everything ablated."""
    return "corrupted" if ablation == "corrupted" else f"all ablated ({ablation})"


def edges_of(graph: CircuitGraph) -> list[str]:
    """The edges a circuit keeps; of a node circuit, all edges between its nodes and the logits."""
    if graph.level == "edge":
        return list(graph.edges)
    from patching.nodes.edges import EdgeSet

    sites = [node.site for node in graph.scored_nodes]
    return [edge.name for edge in EdgeSet.among(sites, graph.info.anatomy)]


def summarize(
    metric: str,
    full: Float[np.ndarray, " n"],
    empty: Float[np.ndarray, " n"],
    circuit: Float[np.ndarray, " n"],
    seed: int = 0,
    ablation: str = "corrupted",
) -> Evaluation:
    """The evaluation that per-prompt metrics of the three runs amount to."""
    import numpy as np

    from circuits.evaluation.areas import faithfulness, told_apart
    from circuits.results.intervals import bootstrap

    def shares(draws: np.ndarray) -> np.ndarray:
        return faithfulness(*(run[draws].mean(axis=1) for run in (full, empty, circuit)))

    known = told_apart(full, empty)
    means = float(full.mean()), float(empty.mean()), float(circuit.mean())
    return Evaluation(
        metric,
        *means,
        n=len(full),
        per_prompt=tuple(float(value) for value in circuit),
        interval=bootstrap(shares, len(full), seed) if known else None,
        faithfulness=float(faithfulness(*map(np.asarray, means))) if known else None,
        ablation=ablation,
    )
