"""Running a circuit: every edge outside it carries what stands in for its sender.

Each receiver reads the residual stream of the ablated model plus, for every edge of the circuit
into it, what that sender now writes more than what stands in for it. With all edges this is the
clean run; with none, every sender is ablated. By default the corrupted run stands in (the
definition used by EAP-IG and the MIB benchmark); any other ablation does as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from patching.ablation.kinds import Ablation, outside
from patching.ablation.means import MeanActivations
from patching.ablation.values import Replace, StandIns
from patching.forward import Record, chain, no_tap
from patching.frame import Frame
from patching.metrics import Metric, check_metric
from patching.model import Model
from patching.nodes.deltas import points_of
from patching.nodes.edges import EdgeSet
from patching.nodes.layout import layout_of
from patching.ops import Point
from patching.placed import PlacedEdges, Wiring, wirings_of
from patching.placed_run import PlacedRun
from patching.places import place_numbers
from patching.progress import Progress
from patching.runs import Batch
from patching.sites import Edge
from patching.sweep import PLAIN, Sweep, sweep
from patching.wired_run import Watch, WiredRun, read_on
from tasks.pairs import PromptPairs

KINDS = (
    *("input", "resid_pre", "q", "k_read", "v_read", "z", "attn_raw", "mlp_in", "mlp_out"),
    "final_in",
)


class CircuitRunner:
    """Runs circuits on one batch whose ablated run is computed once.

    ``standing_in`` holds what stands in for every sender, at the points of
    :func:`patching.nodes.deltas.points_of`; without it the corrupted run does. Where ``nodes`` are
    ``heads``, circuits of heads and whole MLPs can be run.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: Model,
        batch: Batch,
        standing_in: Mapping[Point, Tensor] | None = None,
        nodes: str = "heads",
    ) -> None:
        self.model = model
        self.batch = batch
        self.layout = layout_of(model.anatomy, nodes)
        self.frame: Frame = model.frame(batch.mask)
        self._standing_in = no_tap if standing_in is None else Replace(standing_in)
        self.off = self._ablated(KINDS if nodes == "heads" else (*KINDS, "mlp_post", "mlp_raw"))
        self.clean_input = model.embed(batch.clean, self.frame)

    def _ablated(self, kinds: tuple[str, ...]) -> dict[Point, Tensor]:
        """Values of the run that stands in outside circuits."""
        kept = Record(kinds)
        tap = chain(self._standing_in, kept)
        x = self.model.embed(self.batch.corrupted, self.frame)
        self.model.run_from(0, tap("input", 0, x), self.frame, tap)
        return kept.values

    @cached_property
    def _patterns(self) -> dict[Point, Tensor]:
        """Its attention patterns, which only circuits at places need."""
        return self._ablated(("pattern",))

    @torch.no_grad()
    def logits(self, wiring: Wiring) -> Float[Tensor, "b v"]:
        """Logits at the last position with only the wired edges carrying the clean run."""
        if isinstance(wiring, PlacedEdges):
            at = place_numbers(wiring.places, self.batch)
            run = self.model, self.frame, self.off | self._patterns, self.clean_input, wiring, at
            return PlacedRun(*run).logits()
        return self.run(wiring)

    def run(
        self, wiring: EdgeSet, strength: float = 1.0, watch: Watch = read_on
    ) -> Float[Tensor, "b v"]:
        """The same where every wired edge carries ``strength`` of its change, with gradients.

        ``watch`` is told of everything that ports read, and returns what they read instead.
        """
        model, frame, off = self.model, self.frame, self.off
        return WiredRun(model, frame, off, self.clean_input, wiring, strength, watch).logits()


def run_circuits(
    model: Model,
    pairs: PromptPairs,
    circuits: Sequence[Iterable[str | Edge]],
    metric: str | Metric = "logit_diff",
    batch_size: int | Sweep = 32,
    progress: Progress | None = None,
    ablation: str | Ablation = "corrupted",
    means: MeanActivations | None = None,
) -> Float[np.ndarray, "circuits n"]:
    """The metric of every prompt in every circuit, everything outside it ablated.

    Means are those of the pairs' clean prompts unless ``means`` of another prompt set are given.

    Raises:
        SiteError: an edge that this model cannot have.
        MethodError: an ablation that does not exist or cannot stand in for every sender, or means
            that do not fit.
    """
    wirings = wirings_of(circuits, model.anatomy)
    options = Sweep.of(batch_size, progress)
    return run_wirings(model, pairs, wirings, metric, options, ablation, means)


def settled_runner(
    model: Model,
    pairs: PromptPairs,
    ablation: str | Ablation = "corrupted",
    means: MeanActivations | None = None,
    options: Sweep = PLAIN,
    nodes: str = "heads",
) -> Callable[[Batch], CircuitRunner]:
    """Makes a runner of a batch, with what stands in outside its circuits settled for all pairs.

    Where ``nodes`` are ``heads``, circuits of heads and whole MLPs can be run.

    Raises:
        MethodError: as for :func:`run_circuits`.
    """
    if (kind := outside(ablation)).kind == "corrupted":
        return lambda batch: CircuitRunner(model, batch, nodes=nodes)
    points = points_of(layout_of(model.anatomy, nodes))
    standing = StandIns.of(model, pairs, kind, points, means, options)
    return lambda batch: CircuitRunner(model, batch, standing.at(batch), nodes)


def run_wirings(
    model: Model,
    pairs: PromptPairs,
    wirings: Sequence[Wiring],
    metric: str | Metric = "logit_diff",
    options: Sweep = PLAIN,
    ablation: str | Ablation = "corrupted",
    means: MeanActivations | None = None,
) -> Float[np.ndarray, "circuits n"]:
    """As :func:`run_circuits`, for circuits that are wirings already."""
    checked = check_metric(metric)
    nodes = wirings[0].layout.nodes if wirings else "heads"
    runner_of = settled_runner(model, pairs, ablation, means, options, nodes)
    options = options.counting(len(wirings) * len(pairs), "running circuits")

    def work(batch: Batch) -> Float[np.ndarray, "circuits b"]:
        runner, rows = runner_of(batch), []
        for wiring in wirings:
            rows.append(checked(runner.logits(wiring), batch.pairs))
            options.tell(len(batch))
        return torch.stack(rows).double().cpu().numpy()

    return np.concatenate([*sweep(model, pairs, work, options, len(wirings))], axis=1)


def run_circuit(
    model: Model,
    pairs: PromptPairs,
    edges: Iterable[str | Edge],
    metric: str | Metric = "logit_diff",
    batch_size: int | Sweep = 32,
    ablation: str | Ablation = "corrupted",
    means: MeanActivations | None = None,
) -> Float[np.ndarray, " n"]:
    """The metric of every prompt in one circuit, everything outside it ablated."""
    return run_circuits(model, pairs, [edges], metric, batch_size, None, ablation, means)[0]
